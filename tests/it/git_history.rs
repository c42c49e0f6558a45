//! Whether a branch goes on from a commit: found with as little history as it takes, and no more than is allowed.

use fother::git::{Access, Fetcher, FetcherOptions, Lineage, Reference, Snapshot, Source};
use tempfile::TempDir;

use crate::git::commits_in;
use crate::support::git_server::{GitServer, Origin};

struct Fixture {
    server: GitServer,
    origin: Origin,
    fetcher: Fetcher,
    cache: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let server = GitServer::start().await;
        let origin = server.create("pack").await;
        let cache = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::new(FetcherOptions::new(env!("CARGO_BIN_EXE_fother"), cache.path()));
        Self { server, origin, fetcher, cache }
    }

    /// The same, where no more than `bytes` may be transferred in one sync.
    fn with_transfers_of(mut self, bytes: u64) -> Self {
        let mut options = FetcherOptions::new(env!("CARGO_BIN_EXE_fother"), self.cache.path());
        options.limits.transfer_bytes = bytes;
        self.fetcher = Fetcher::new(options);
        self
    }

    async fn fetch(&self, ancestor: Option<&str>) -> Snapshot {
        let source = Source {
            owner: "payments/pack".into(),
            url: self.server.url("pack"),
            reference: Reference::Default,
            path: String::new(),
            access: Access { ca_bundle: Some(self.server.ca_pem().to_owned()), ..Access::default() },
            signers: None,
            ancestor: ancestor.map(str::to_owned),
        };
        self.fetcher.fetch(&source).await.unwrap()
    }

    async fn lineage(&self, ancestor: &str) -> Lineage {
        self.fetch(Some(ancestor)).await.lineage
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_goes_on_is_seen_with_little_history() {
    let fixture = Fixture::new().await;
    for number in 0..20 {
        fixture.origin.push(&[("a", &number.to_string())]).await;
    }
    let applied = fixture.fetch(None).await;
    assert_eq!(applied.lineage, Lineage::Unasked);
    assert_eq!(commits_in(&fixture.cache), 1);
    let applied = applied.revision.commit;
    assert_eq!(fixture.lineage(&applied).await, Lineage::Descends, "of itself");
    for number in 20..25 {
        fixture.origin.push(&[("a", &number.to_string())]).await;
    }
    assert_eq!(fixture.lineage(&applied).await, Lineage::Descends);
    let commits = commits_in(&fixture.cache);
    assert!(commits < 20, "{commits} commits were fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_goes_on_from_both_sides() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    fixture.origin.git(&["checkout", "--quiet", "-b", "side"]).await;
    let side = fixture.origin.push(&[("b", "1")]).await;
    fixture.origin.git(&["checkout", "--quiet", "main"]).await;
    let applied = fixture.origin.push(&[("a", "2")]).await;
    fixture.origin.git(&["merge", "--quiet", "--no-ff", "-m", "merge", "side"]).await;
    fixture.origin.git(&["push", "--quiet", "origin", "main"]).await;
    assert_eq!(fixture.lineage(&applied).await, Lineage::Descends);
    assert_eq!(fixture.lineage(&side).await, Lineage::Descends);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_branch_is_seen() {
    let fixture = Fixture::new().await;
    let first = fixture.origin.push(&[("a", "1")]).await;
    let second = fixture.origin.push(&[("a", "2")]).await;
    assert_eq!(fixture.lineage(&first).await, Lineage::Descends);
    // Back to an older commit, which descends from itself and not from what came after it.
    fixture.origin.git(&["reset", "--quiet", "--hard", &first]).await;
    fixture.origin.git(&["push", "--quiet", "--force", "origin", "HEAD"]).await;
    assert_eq!(fixture.lineage(&second).await, Lineage::Rewritten);
    // Another commit in place of the second.
    fixture.origin.push(&[("a", "3")]).await;
    assert_eq!(fixture.lineage(&second).await, Lineage::Rewritten);
    assert_eq!(fixture.lineage(&first).await, Lineage::Descends);
    // Nothing in common.
    fixture.origin.git(&["checkout", "--quiet", "--orphan", "other"]).await;
    fixture.origin.git(&["branch", "-D", "main"]).await;
    fixture.origin.git(&["branch", "-M", "main"]).await;
    fixture.origin.push(&[("a", "4")]).await;
    assert_eq!(fixture.lineage(&first).await, Lineage::Rewritten);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_is_bounded() {
    let fixture = Fixture::new().await;
    let applied = fixture.origin.push(&[("a", "1")]).await;
    fixture.origin.push_many(500).await;
    assert_eq!(fixture.lineage(&applied).await, Lineage::Descends);
    fixture.origin.push_many(1000).await;
    assert_eq!(fixture.lineage(&applied).await, Lineage::Unproven);
    let commits = commits_in(&fixture.cache);
    assert!(commits < 1502, "{commits} commits: not everything was fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_that_weighs_too_much_is_not_searched() {
    let fixture = Fixture::new().await;
    let applied = fixture.origin.push(&[("a", "1")]).await;
    let head = fixture.origin.push_a_heavy_past(200_000).await;
    let fixture = fixture.with_transfers_of(100_000);
    let snapshot = fixture.fetch(Some(&applied)).await;
    assert_eq!((snapshot.lineage, &snapshot.revision.commit), (Lineage::Unproven, &head));
    assert_eq!(snapshot.files.len(), 1, "what is there now is read all the same");
    let fixture = fixture.with_transfers_of(1_000_000);
    assert_eq!(fixture.lineage(&applied).await, Lineage::Descends);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cache_changes_no_answer() {
    let fixture = Fixture::new().await;
    let applied = fixture.origin.push(&[("a", "1")]).await;
    fixture.fetch(None).await;
    fixture.origin.push(&[("a", "2")]).await;
    std::fs::remove_dir_all(fixture.cache.path()).unwrap();
    assert_eq!(fixture.lineage(&applied).await, Lineage::Descends);
    std::fs::remove_dir_all(fixture.cache.path()).unwrap();
    assert_eq!(fixture.lineage(&"f".repeat(40)).await, Lineage::Rewritten);
}
