//! Container images without a registry: a layer of files, a configuration, and an archive that containerd imports.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// Where Debian has programs; the first three are links or rare, but packages list their files there.
const PROGRAM_FOLDERS: [&str; 4] = ["/bin", "/sbin", "/usr/sbin", "/usr/bin"];
/// A folder of its own in the file system, and a link to where everything is, as Debian has it since release 12.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// The files of an image by their path below the root.
#[derive(Default)]
pub struct Layer {
    entries: BTreeMap<PathBuf, Entry>,
}

enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { to: PathBuf },
}

/// What containerd knows an image by, and how it starts.
pub struct Image<'a> {
    pub name: &'a str,
    /// As in an image's configuration: `Entrypoint`, `Cmd`, `User`, `Env`.
    pub config: Value,
    pub layer: &'a Layer,
}

impl Layer {
    /// What every container expects: folders, users, and no files.
    pub fn base() -> Self {
        let mut layer = Self::default();
        for folder in ["dev", "etc", "proc", "sys", "usr", "var"] {
            layer.folder(folder, 0o755);
        }
        for folder in ["tmp", "var/tmp"] {
            layer.folder(folder, 0o1777);
        }
        for name in MERGED {
            layer.link(name, &format!("usr/{name}"));
        }
        layer.file("etc/passwd", 0o644, "root:x:0:0::/:\nnobody:x:65534:65534::/:\n");
        layer.file("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n");
        layer
    }

    pub fn folder(&mut self, path: &str, mode: u32) {
        self.entries.insert(path.into(), Entry::Folder { mode });
    }

    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.entries.insert(path.into(), Entry::File { mode, content: content.into() });
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.entries.insert(path.into(), Entry::Link { to: to.into() });
    }

    /// All that is in a folder of this machine.
    pub fn tree(root: &Path) -> Self {
        let mut layer = Self::default();
        layer.add_tree(root, Path::new(""));
        layer
    }

    fn add_tree(&mut self, root: &Path, folder: &Path) {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            let found = root.join(&path);
            let mode = std::fs::metadata(&found).unwrap().permissions().mode() & 0o7777;
            if found.is_dir() {
                self.entries.insert(path.clone(), Entry::Folder { mode });
                self.add_tree(root, &path);
            } else {
                self.entries.insert(path, Entry::File { mode, content: read(&found) });
            }
        }
    }

    /// The programs of Debian packages that are installed on this machine, with the libraries that they load.
    pub fn packages(&mut self, names: &[&str]) {
        let listed = stdout(Command::new("dpkg-query").arg("--listfiles").args(names));
        let is_program = |path: &Path| {
            path.parent()
                .is_some_and(|parent| PROGRAM_FOLDERS.iter().any(|folder| parent == Path::new(folder)))
        };
        let mut loading = Vec::new();
        for program in listed.lines().map(PathBuf::from).filter(|path| is_program(path)) {
            // A relative link among programs, as of `rbash`; others lead to what is chosen on this machine alone.
            match std::fs::read_link(&program) {
                Ok(to) if to.is_relative() => drop(self.entries.insert(place(&program), Entry::Link { to })),
                Err(_) if program.is_file() => {
                    let entry = Entry::File { mode: 0o755, content: read(&program) };
                    self.entries.insert(place(&program), entry);
                    loading.push(program);
                }
                Ok(_) | Err(_) => {}
            }
        }
        self.libraries(&loading);
    }

    fn libraries(&mut self, programs: &[PathBuf]) {
        // It fails on scripts and static programs, which load nothing.
        let listed = Command::new("ldd").args(programs).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader itself as `/lib64/ld-linux-x86-64.so.2 (0x…)`.
        let path = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.iter().find(|word| word.starts_with('/') && !word.ends_with(':')).map(PathBuf::from)
        };
        let libraries: BTreeSet<_> = listed.lines().filter_map(path).collect();
        for library in libraries {
            let entry = Entry::File { mode: 0o755, content: read(&library) };
            self.entries.insert(place(&library), entry);
        }
    }

    /// The layer as a tar file. Equal layers give equal bytes.
    fn archive(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = Header::new_gnu();
            match entry {
                Entry::Folder { mode } => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(*mode);
                    archive.append_data(&mut header, path, std::io::empty()).unwrap();
                }
                Entry::File { mode, content } => {
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice()).unwrap();
                }
                Entry::Link { to } => {
                    header.set_entry_type(EntryType::Symlink);
                    archive.append_link(&mut header, path, to).unwrap();
                }
            }
        }
        archive.into_inner().unwrap()
    }
}

/// Writes images of one layer each, as `docker save` does; equal layers are written once.
pub fn write(images: &[Image], to: impl Write) {
    let mut archive = tar::Builder::new(to);
    let mut manifest = Vec::new();
    let mut layers: BTreeMap<*const Layer, String> = BTreeMap::new();
    for image in images {
        let digest = layers.entry(std::ptr::from_ref(image.layer)).or_insert_with(|| {
            let layer = image.layer.archive();
            let digest = hex(&layer);
            append(&mut archive, &format!("{digest}.tar"), &layer);
            digest
        });
        let config = configuration(&image.config, digest).to_string();
        let config_name = format!("{}.json", hex(config.as_bytes()));
        append(&mut archive, &config_name, config.as_bytes());
        manifest.push(json!({
            "Config": config_name, "RepoTags": [image.name], "Layers": [format!("{digest}.tar")],
        }));
    }
    append(&mut archive, "manifest.json", json!(manifest).to_string().as_bytes());
    archive.into_inner().unwrap().flush().unwrap();
}

fn configuration(config: &Value, layer_digest: &str) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    })
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content).unwrap();
}

/// Where a file of this machine is in an image: its folder without links, its name as it is asked for.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap().canonicalize().unwrap();
    folder.join(path.file_name().unwrap()).strip_prefix("/").unwrap().to_owned()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
