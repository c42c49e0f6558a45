//! Whether a revision is signed by somebody who may: SSH signatures of git, against exactly the listed keys.
//!
//! What is followed must be signed: for a branch or a commit that is the commit, for a tag or a range of versions the annotated
//! tag. A signed commit under an unsigned tag is not enough: it says who wrote it, not that it is the release of that name.

use git2::{ErrorCode, ObjectType, Oid, Repository};
use russh::keys::ssh_key::SshSig;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg, PublicKey};

use super::error::{Error, Failure};
use crate::api::Signer;

/// What git signatures are made for; a signature for anything else is none.
const NAMESPACE: &str = "git";
/// How an SSH signature begins.
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";
/// How signatures begin that are not verified.
const OTHERS: [(&str, &str); 3] = [
    ("-----BEGIN PGP SIGNATURE-----", "GPG"),
    ("-----BEGIN PGP MESSAGE-----", "GPG"),
    ("-----BEGIN SIGNED MESSAGE-----", "X.509"),
];
/// The smallest RSA key that still proves something.
const RSA_BITS: u32 = 2048;
/// In a signature by a security key: somebody touched it.
const TOUCHED: u8 = 1;
/// After the signature itself, a security key gives its flags and a counter.
const FLAGS_AND_COUNTER: usize = 5;

/// Who may sign.
pub(super) struct Signers(Vec<(String, PublicKey)>);

/// The signed part of an object, and its signature.
struct Signed {
    /// The object as a person names it.
    what: String,
    payload: Vec<u8>,
    signature: String,
}

impl Signers {
    /// Reads the listed keys.
    pub(super) fn read(listed: &[Signer]) -> Result<Self, Error> {
        if listed.is_empty() {
            return Err(invalid("", "the list is empty, so that nothing could ever be good enough"));
        }
        let read = |signer: &Signer| {
            let key = PublicKey::from_openssh(signer.public_key.trim())
                .map_err(|error| invalid(&signer.name, &format!("not a public key of OpenSSH: {error}")))?;
            match key.key_data() {
                KeyData::Rsa(rsa) if rsa.key_size() < RSA_BITS => {
                    Err(invalid(&signer.name, &format!("an RSA key needs {RSA_BITS} bits")))
                }
                KeyData::Dsa(_) | KeyData::Other(_) => {
                    Err(invalid(&signer.name, "keys of this type are not supported"))
                }
                _ => Ok((signer.name.clone(), key)),
            }
        };
        Ok(Self(listed.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Who signed the commit.
    pub(super) fn of_commit(&self, repository: &Repository, commit: Oid) -> Result<String, Failure> {
        let what = format!("commit {commit}");
        let (signature, payload) = match repository.extract_signature(&commit, None) {
            Ok(parts) => parts,
            Err(error) if error.code() == ErrorCode::NotFound => return Err(refused(&what, "unsigned")),
            Err(error) => return Err(error.into()),
        };
        let signature = String::from_utf8_lossy(&signature).into_owned();
        self.verify(&Signed { what, payload: payload.to_vec(), signature })
    }

    /// Who signed the annotated tag: one of this name that stands for this commit.
    pub(super) fn of_tag(
        &self,
        repository: &Repository,
        tag: Oid,
        name: &str,
        commit: Oid,
    ) -> Result<String, Failure> {
        let what = format!("tag {name:?}");
        let object = repository.find_object(tag, None)?;
        let Some(found) = object.as_tag() else {
            return Err(refused(
                &what,
                "is not annotated, so that nobody signed it; sign it with git tag -s",
            ));
        };
        // A signed tag could be shown under another name, as an old release for a new one.
        if found.name_bytes() != name.as_bytes() {
            let own = String::from_utf8_lossy(found.name_bytes()).into_owned();
            return Err(refused(&what, &format!("was signed as {own:?}")));
        }
        if (found.target_id(), found.target_type()) != (commit, Some(ObjectType::Commit)) {
            return Err(refused(&what, "does not stand for the commit itself"));
        }
        let data = repository.odb()?.read(tag)?.data().to_vec();
        let Some(at) = signature_in(&data) else { return Err(refused(&what, "unsigned")) };
        let (payload, signature) = data.split_at(at);
        let signature = String::from_utf8_lossy(signature).into_owned();
        self.verify(&Signed { what, payload: payload.to_vec(), signature })
    }

    fn verify(&self, signed: &Signed) -> Result<String, Failure> {
        self.judge(signed).map_err(|problem| refused(&signed.what, &problem))
    }

    fn judge(&self, Signed { payload, signature, .. }: &Signed) -> Result<String, String> {
        let begins = |text: &str| signature.trim_start().starts_with(text);
        if let Some((_, name)) = OTHERS.iter().find(|(text, _)| begins(text)) {
            return Err(format!("is signed with {name}; only SSH signatures are verified"));
        }
        let signature =
            SshSig::from_pem(signature.trim()).map_err(|error| format!("has a broken signature: {error}"))?;
        let Some((name, key)) = self.0.iter().find(|(_, key)| key.key_data() == signature.public_key())
        else {
            let names: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
            let (shown, names) = (signature.public_key().fingerprint(HashAlg::Sha256), names.join(", "));
            return Err(format!("is signed by {shown}, which is none of the signers {names}"));
        };
        if matches!(signature.algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
            return Err("is signed with SHA-1, which proves nothing any more".to_owned());
        }
        if !touched(&signature) {
            return Err(format!("is signed by {name}'s security key without a touch"));
        }
        key.verify(NAMESPACE, payload, &signature)
            .map_err(|error| format!("has a signature that does not verify: {error}"))?;
        Ok(name.clone())
    }
}

/// Where the signature begins that ends the object: the last line that looks like one's beginning.
fn signature_in(data: &[u8]) -> Option<usize> {
    let beginnings = || OTHERS.iter().map(|(text, _)| text.as_bytes()).chain([SSH.as_bytes()]);
    let mut at = 0;
    let mut found = None;
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if beginnings().any(|beginning| line.starts_with(beginning)) {
            found = Some(at);
        }
        at += line.len();
    }
    found
}

/// A security key signs for a program too; the touch shows that a person wanted it.
fn touched(signature: &SshSig) -> bool {
    match signature.public_key() {
        KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {
            let bytes = signature.signature_bytes();
            let flags = bytes.len().checked_sub(FLAGS_AND_COUNTER).and_then(|at| bytes.get(at));
            flags.is_some_and(|flags| flags & TOUCHED != 0)
        }
        _ => true,
    }
}

fn refused(what: &str, problem: &str) -> Failure {
    Failure::Final(Error::SignatureInvalid { what: what.to_owned(), problem: problem.to_owned() })
}

fn invalid(name: &str, problem: &str) -> Error {
    Error::InvalidReference { what: "signer".into(), value: name.to_owned(), problem: problem.to_owned() }
}
