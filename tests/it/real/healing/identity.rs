//! Nothing happens twice, whatever crashes and whoever wakes up late.

use http::Method;
use serde_json::json;

use super::scenario::{CAULK, Scenario};
use crate::support::proxy::{Deed, Moment, Requests};
use crate::support::wait::DEADLINE;

/// Kills the controller where a request that matches `pattern` stands still, starts it again, and sees that the end is
/// the same as if nothing had happened.
async fn killed_at(scenario: &Scenario, method: Method, pattern: &str, moment: Moment) {
    let proxy = scenario.proxy().await;
    scenario.rule("leak", json!({})).await;
    let mut controller = scenario.controller_through(&proxy).await;
    scenario.watching("leak").await;
    let fault = proxy.arm(Requests::new(method, pattern).nth(1), moment, Deed::Hold);
    scenario.boat("ark", "leaking").await;
    fault.wait_until_hit(DEADLINE).await;
    controller.kill();
    // What was held goes on its way only now: it may arrive after what the next process does, or before.
    fault.release();
    controller.start_again();
    controller.ready().await;
    scenario.until_caulking(1).await;
    scenario.let_caulk_end();
    scenario.set_hull("ark", "tight").await;
    let execution = scenario.ends("leak", "TargetRecovered").await;
    assert_eq!(execution.status.unwrap().rungs[0].outputs.to_value(), json!({"planks": 3}));
    scenario.controller_catches_up().await;
    assert_eq!(scenario.executions("leak").await.len(), 1);
    let jobs = scenario.jobs().await;
    assert_eq!((jobs.len(), scenario.caulked()), (1, 1), "{jobs:#?}");
    assert!(jobs[0].metadata.finalizers.is_none(), "{jobs:#?}");
    scenario.delete_rule("leak").await;
}

macro_rules! kills {
    ($($name:ident: $method:ident $pattern:literal $moment:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            let Some(scenario) = Scenario::alone("kill").await else { return };
            killed_at(&scenario, Method::$method, $pattern, Moment::$moment).await;
        }
    )*};
}

kills! {
    killed_before_the_execution_is_sent: POST "/executions$" BeforeSent,
    killed_when_the_execution_is_committed: POST "/executions$" Committed,
    killed_when_the_execution_is_answered: POST "/executions$" Answered,
    killed_before_the_job_is_sent: POST "/jobs$" BeforeSent,
    killed_when_the_job_is_committed: POST "/jobs$" Committed,
    killed_when_the_job_is_answered: POST "/jobs$" Answered,
    killed_before_the_job_is_recorded: PATCH "/executions/.*/status" BeforeSent,
    killed_when_the_job_is_recorded: PATCH "/executions/.*/status" Committed,
}
