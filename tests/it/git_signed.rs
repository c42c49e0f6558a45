//! Signatures, made by git and ssh-keygen themselves, against the listed keys.

use fother::api::Signer;
use fother::git::{Access, Consequence, Error, Fetcher, FetcherOptions, Reference, Snapshot, Source};
use tempfile::TempDir;

use crate::support::git_server::{GitServer, Origin};
use crate::support::ssh_server::{ECDSA, ED25519, KeyPair, RSA};

struct Fixture {
    server: GitServer,
    origin: Origin,
    fetcher: Fetcher,
    keys: TempDir,
    _cache: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let server = GitServer::start().await;
        let origin = server.create("pack").await;
        let (cache, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let fetcher = Fetcher::new(FetcherOptions::new(env!("CARGO_BIN_EXE_fother"), cache.path()));
        Self { server, origin, fetcher, keys, _cache: cache }
    }

    async fn key(&self, name: &str, options: &[&str]) -> KeyPair {
        KeyPair::generate(self.keys.path(), name, options).await
    }

    async fn fetch(&self, reference: Reference, signers: &[Signer]) -> Result<Snapshot, Error> {
        let source = Source {
            owner: "payments/pack".into(),
            url: self.server.url("pack"),
            reference,
            path: String::new(),
            access: Access { ca_bundle: Some(self.server.ca_pem().to_owned()), ..Access::default() },
            signers: Some(signers.to_vec()),
            ancestor: None,
        };
        self.fetcher.fetch(&source).await
    }

    async fn refusal(&self, reference: Reference, signers: &[Signer]) -> String {
        let error = self.fetch(reference, signers).await.unwrap_err();
        assert_eq!((error.reason(), error.consequence()), ("SignatureInvalid", Consequence::Wait), "{error}");
        error.to_string()
    }

    /// The commit on top, as git keeps it.
    async fn raw(&self) -> String {
        let output = tokio::process::Command::new("git")
            .args(["cat-file", "commit", "HEAD"])
            .current_dir(self.origin.work())
            .output();
        String::from_utf8(output.await.unwrap().stdout).unwrap()
    }

    /// The commit on top, unsigned so far, with a signature that ssh-keygen makes.
    async fn sign(&self, key: &KeyPair, options: &[&str]) -> String {
        let raw = self.raw().await;
        let file = self.keys.path().join("payload");
        std::fs::write(&file, &raw).unwrap();
        let mut sign = tokio::process::Command::new("ssh-keygen");
        sign.args(["-q", "-Y", "sign", "-f", key.path().to_str().unwrap()]).args(options).arg(&file);
        assert!(sign.output().await.unwrap().status.success());
        let signature = file.with_extension("sig");
        let text = std::fs::read_to_string(&signature).unwrap();
        std::fs::remove_file(signature).unwrap();
        with_signature(&raw, &text)
    }
}

/// A commit with a signature in its header.
fn with_signature(raw: &str, signature: &str) -> String {
    let (header, message) = raw.split_once("\n\n").unwrap();
    format!("{header}\ngpgsig {}\n\n{message}", signature.trim_end().replace('\n', "\n "))
}

fn signer(name: &str, key: &KeyPair) -> Signer {
    Signer { name: name.into(), public_key: key.public() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_key_may_sign() {
    let fixture = Fixture::new().await;
    let types: [&[&str]; 5] =
        [ED25519, ECDSA, &["-t", "ecdsa", "-b", "384"], &["-t", "ecdsa", "-b", "521"], RSA];
    let mut signers = Vec::new();
    for (number, options) in types.iter().enumerate() {
        let key = fixture.key(&format!("key-{number}"), options).await;
        signers.push(signer(&format!("signer-{number}"), &key));
        fixture.origin.sign_with(key.path()).await;
        let commit = fixture.origin.push(&[("a", &number.to_string())]).await;
        let snapshot = fixture.fetch(Reference::Default, &signers).await;
        let snapshot = snapshot.unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert_eq!(snapshot.revision.commit, commit);
        assert_eq!(snapshot.signer, Some(format!("signer-{number}")));
        let pinned = fixture.fetch(Reference::Commit(commit), &signers).await.unwrap();
        assert_eq!(pinned.signer, snapshot.signer, "a commit that is cached is verified too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_commit_and_a_strangers_are_refused() {
    let fixture = Fixture::new().await;
    let (alice, mallory) = (fixture.key("alice", ED25519).await, fixture.key("mallory", ED25519).await);
    let signers = [signer("alice", &alice)];
    let commit = fixture.origin.push(&[("a", "1")]).await;
    assert_eq!(fixture.refusal(Reference::Default, &signers).await, format!("commit {commit} unsigned"));
    let pinned = fixture.refusal(Reference::Commit(commit.clone()), &signers).await;
    assert_eq!(pinned, format!("commit {commit} unsigned"));

    fixture.origin.sign_with(mallory.path()).await;
    let commit = fixture.origin.push(&[("a", "2")]).await;
    let refusal = fixture.refusal(Reference::Default, &signers).await;
    assert!(refusal.starts_with(&format!("commit {commit} is signed by SHA256:")), "{refusal}");
    assert!(refusal.ends_with("which is none of the signers alice"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_for_one_commit() {
    let fixture = Fixture::new().await;
    let alice = fixture.key("alice", ED25519).await;
    fixture.origin.sign_with(alice.path()).await;
    fixture.origin.push(&[("a", "1")]).await;
    let forged = fixture.raw().await.replace("\nchange\n", "\nforged\n");
    assert!(forged.contains("gpgsig") && forged.contains("forged"), "{forged}");
    fixture.origin.push_raw(&forged).await;
    let refusal = fixture.refusal(Reference::Default, &[signer("alice", &alice)]).await;
    assert!(refusal.contains("has a signature that does not verify"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_for_git_and_by_ssh() {
    let fixture = Fixture::new().await;
    let alice = fixture.key("alice", ED25519).await;
    let signers = [signer("alice", &alice)];
    fixture.origin.push(&[("a", "1")]).await;
    let unsigned = fixture.raw().await;

    let good = fixture.sign(&alice, &["-n", "git", "-O", "hashalg=sha256"]).await;
    fixture.origin.push_raw(&good).await;
    assert_eq!(fixture.fetch(Reference::Default, &signers).await.unwrap().signer.as_deref(), Some("alice"));

    fixture.origin.push_raw(&unsigned).await;
    let for_a_file = fixture.sign(&alice, &["-n", "file"]).await;
    let pgp = with_signature(&unsigned, "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----");
    let broken = with_signature(&unsigned, "-----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----");
    for (raw, expected) in [
        (for_a_file, "has a signature that does not verify"),
        (pgp, "is signed with GPG; only SSH signatures are verified"),
        (broken, "has a broken signature"),
    ] {
        fixture.origin.push_raw(&raw).await;
        let refusal = fixture.refusal(Reference::Default, &signers).await;
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_signed_itself_under_its_own_name() {
    let fixture = Fixture::new().await;
    let alice = fixture.key("alice", ED25519).await;
    let signers = [signer("alice", &alice)];
    let tag = |name: &str| Reference::Tag(name.into());
    let unsigned = fixture.origin.push(&[("a", "1")]).await;
    fixture.origin.git(&["tag", "-a", "-m", "one", "v1.0.0"]).await;
    fixture.origin.sign_with(alice.path()).await;
    // A signed tag vouches for the commit that it names, and so for what leads to it.
    fixture.origin.git(&["tag", "-a", "-m", "one", "v1.1.0", &unsigned]).await;
    fixture.origin.push(&[("a", "2")]).await;
    fixture.origin.git(&["config", "tag.gpgsign", "false"]).await;
    fixture.origin.git(&["tag", "v1.2.0"]).await;
    let object = fixture.origin.git(&["rev-parse", "v1.1.0"]).await;
    fixture.origin.git(&["update-ref", "refs/tags/v1.3.0", &object]).await;
    fixture.origin.git(&["push", "--quiet", "--tags", "origin"]).await;

    let signed = fixture.fetch(tag("v1.1.0"), &signers).await.unwrap();
    assert_eq!((signed.revision.commit, signed.signer.as_deref()), (unsigned, Some("alice")));
    for (name, expected) in [
        ("v1.0.0", "tag \"v1.0.0\" unsigned"),
        ("v1.2.0", "tag \"v1.2.0\" is not annotated, so that nobody signed it; sign it with git tag -s"),
        ("v1.3.0", "tag \"v1.3.0\" was signed as \"v1.1.0\""),
    ] {
        assert_eq!(fixture.refusal(tag(name), &signers).await, expected);
    }
    // The highest version is meant, signed or not: falling back to a lower one would be a downgrade.
    let range = fixture.refusal(Reference::Semver(">=1".into()), &signers).await;
    assert_eq!(range, "tag \"v1.3.0\" was signed as \"v1.1.0\"");
    let range = fixture.fetch(Reference::Semver("~1.1".into()), &signers).await.unwrap();
    assert_eq!(range.revision.name.as_deref(), Some("v1.1.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_signers_is_checked() {
    let fixture = Fixture::new().await;
    fixture.origin.push(&[("a", "1")]).await;
    let weak = fixture.key("weak", &["-t", "rsa", "-b", "1024"]).await;
    let garbage = Signer { name: "bob".into(), public_key: "ssh-ed25519 AAAA".into() };
    for (signers, expected) in [
        (vec![], "signer \"\": the list is empty"),
        (vec![signer("eve", &weak)], "signer \"eve\": an RSA key needs 2048 bits"),
        (vec![garbage], "signer \"bob\": not a public key of OpenSSH"),
    ] {
        let error = fixture.fetch(Reference::Default, &signers).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.consequence(), Consequence::Stall);
    }
}
