//! The scenarios on the real control plane, whose own controllers are at work.

use super::kubelet;
use super::stage::Stage;

macro_rules! scenarios {
    ($($module:ident :: $name:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            let Some(stage) = Stage::real(stringify!($name)).await else { return };
            $module::$name(&stage).await;
            stage.stop().await;
        }
    )*};
}

scenarios! {
    kubelet::a_job_runs_as_a_process,
    kubelet::a_failing_job_says_why,
}
