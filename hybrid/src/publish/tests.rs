//! Folders on a real disk become torrents and DAGs.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use swarmgate_bittorrent_proto::metainfo::hash_pieces;
use swarmgate_content::{BlockHash, Cid};
use swarmgate_ipfs_proto::build::{FileBuilder, Profile};
use swarmgate_store::StoreOptions;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::*;

const MIB: usize = 1 << 20;

/// A folder, and a store on disk.
struct World {
    dir: TempDir,
    store: Store,
}

impl World {
    async fn new(files: &[(&str, usize)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (seed, (path, len)) in (0..).zip(files) {
            let path = dir.path().join("folder").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, noise(seed, *len)).unwrap();
        }
        let store = Self::open(dir.path()).await;
        Self { dir, store }
    }

    async fn open(dir: &Path) -> Store {
        let options = StoreOptions { dir: Some(dir.join("cache")), ..StoreOptions::in_memory(256 << 20) };
        Store::open(options).await.unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("folder")
    }

    fn options(&self, piece_len: u32) -> PublishOptions {
        PublishOptions {
            path: self.folder(),
            name: None,
            piece_len: Some(piece_len),
            longest_chosen: MAX_PIECE_BYTES,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            copy: false,
        }
    }

    async fn publish(&self, piece_len: u32) -> Result<Draft, PublishError> {
        publish(&self.store, &self.options(piece_len), |_| {}).await
    }

    /// Publishes until so many bytes are done, and leaves then.
    async fn publish_until(&self, piece_len: u32, bytes: u64) {
        let reached = Arc::new(Notify::new());
        let told = Arc::clone(&reached);
        let options = self.options(piece_len);
        let publishing = publish(&self.store, &options, move |progress| {
            if progress.done >= bytes {
                told.notify_one();
            }
        });
        tokio::select! {
            biased;
            () = reached.notified() => {}
            done = publishing => panic!("it was to be interrupted: {:?}", done.is_ok()),
        }
    }

    /// That nothing is held, referenced or remembered.
    async fn assert_nothing_is_left(&self) {
        assert_eq!(self.store.pinned_roots(), Vec::<String>::new());
        assert_eq!(self.store.usage().referenced_blocks, 0);
        assert_eq!(self.store.list_records("publish-journal").await.unwrap(), []);
    }
}

fn noise(seed: u32, len: usize) -> Vec<u8> {
    let words = (seed.wrapping_mul(40_503)..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes());
    words.take(len).collect()
}

fn cid_of(bytes: &[u8]) -> Cid {
    let mut builder = FileBuilder::new(Profile::V1_2025);
    builder.push(bytes);
    builder.finish().cid
}

#[tokio::test]
async fn one_read_gives_the_pieces_and_the_cids_that_the_bytes_have_and_nothing_is_copied() {
    let files = [
        ("a film.mkv", 3 * MIB + 77),
        ("b/.hidden", 10),
        ("b/empty", 0),
        ("b/ünïcode ☃.txt", 32 << 10),
        ("c", 1),
        ("z/last", 2 * MIB),
    ];
    let world = World::new(&files).await;
    let draft = world.publish(32 << 10).await.unwrap();
    let all: Vec<u8> = files.iter().flat_map(|(path, _)| fs::read(world.folder().join(path)).unwrap()).collect();
    let read = Metainfo::parse(&draft.metainfo.to_torrent().into()).unwrap();
    assert_eq!(read.info.name, "folder");
    let pieces: Vec<u8> = draft.pieces.concat();
    assert_eq!(pieces, hash_pieces(&all, 32 << 10), "and so says an independent hash of the whole");
    let paths: Vec<String> = read.info.files.iter().map(|file| file.path.join("/")).collect();
    assert_eq!(paths, files.map(|(path, _)| path.to_owned()));
    for (file, (path, len)) in draft.files.iter().zip(files) {
        assert_eq!((file.len, file.cid), (len as u64, cid_of(&fs::read(world.folder().join(path)).unwrap())), "{path}");
    }
    assert_eq!(draft.read_bytes, all.len() as u64, "each byte once");
    let usage = world.store.usage();
    assert!(usage.bytes < 20_000, "{} bytes were stored", usage.bytes);
    assert_eq!(draft.bindings().count(), 5, "what is empty has nothing to fetch");

    let (name, infohash) = (root_name(&draft.metainfo), draft.metainfo.infohash);
    let hashes = draft.pieces.clone();
    draft.seal().await.unwrap();
    assert_eq!(world.store.pinned_roots(), [name]);
    for (piece, hash) in all.chunks(32 << 10).zip(hashes) {
        let stored = world.store.read_all(&BlockHash::sha1(hash)).await.unwrap().unwrap();
        assert!(stored.as_ref() == piece);
    }
    assert!(world.store.contains(&BlockHash::from(infohash)));
    assert_eq!(world.store.list_records("publish-journal").await.unwrap(), []);
}

#[tokio::test]
async fn one_file_is_a_torrent_without_a_folder() {
    let world = World::new(&[("film.mkv", 100_000)]).await;
    let options = PublishOptions { path: world.folder().join("film.mkv"), ..world.options(MIN_PIECE_BYTES) };
    let draft = publish(&world.store, &options, |_| {}).await.unwrap();
    assert!(draft.metainfo.info.single_file);
    assert_eq!((draft.metainfo.info.name.as_str(), draft.root), ("film.mkv", draft.files[0].cid));
    draft.let_go().await.unwrap();
    world.assert_nothing_is_left().await;
}

/// Files of 4 KiB, four to a piece.
async fn many_files() -> World {
    let names: Vec<String> = (0..1_200).map(|n| format!("{n:04}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 4096)).collect();
    World::new(&files).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_interrupted_goes_on_after_the_files_that_were_done() {
    let world = many_files().await;
    // What is noted is noted in batches, of some 400 files here.
    world.publish_until(MIN_PIECE_BYTES, 900 * 4096).await;
    world.store.close().await;
    let world = World { store: World::open(world.dir.path()).await, ..world };
    let again = world.publish(MIN_PIECE_BYTES).await.unwrap();
    let left = (1_200 - 800) * 4096;
    assert!(again.read_bytes < left, "{} bytes were read again", again.read_bytes);
    let fresh = many_files().await.publish(MIN_PIECE_BYTES).await.unwrap();
    assert_eq!((again.metainfo.infohash, again.root), (fresh.metainfo.infohash, fresh.root));
    again.seal().await.unwrap();
    assert_eq!(world.store.pinned_roots().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_has_changed_since_the_interruption_is_read_again_and_so_are_its_pieces() {
    let world = many_files().await;
    world.publish_until(MIN_PIECE_BYTES, 700 * 4096).await;
    fs::write(world.folder().join("0002"), noise(77_777, 4096)).unwrap();
    // Cut short once more, so that what was noted of the changed piece is put to the test.
    world.publish_until(MIN_PIECE_BYTES, 1_100 * 4096).await;
    let again = world.publish(MIN_PIECE_BYTES).await.unwrap();
    assert!(again.read_bytes < (1_200 - 800) * 4096, "{}", again.read_bytes);
    let fresh = many_files().await;
    fs::write(fresh.folder().join("0002"), noise(77_777, 4096)).unwrap();
    let fresh = fresh.publish(MIN_PIECE_BYTES).await.unwrap();
    assert_eq!((again.metainfo.infohash, again.root), (fresh.metainfo.infohash, fresh.root));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_meanwhile_is_named_and_nothing_is_published() {
    // The first changes when it was read already, the last before its turn.
    for name in ["a", "z"] {
        let world = World::new(&[("a", MIB), ("m", 40 * MIB), ("z", MIB)]).await;
        let path = world.folder().join(name);
        let changing = path.clone();
        let mut changed = false;
        let options = world.options(MIN_PIECE_BYTES);
        let outcome = publish(&world.store, &options, move |progress| {
            if !changed && progress.done > 5 * MIB as u64 {
                changed = true;
                fs::write(&changing, noise(9, MIB)).unwrap();
            }
        });
        let error = outcome.await.unwrap_err();
        let said = format!("{}: changed while it was being published", path.canonicalize().unwrap().display());
        assert!(error.to_string().starts_with(&said), "{error}");
        world.assert_nothing_is_left().await;
    }
}

#[tokio::test]
async fn links_and_empty_folders_are_in_the_dag_and_what_is_no_file_is_refused_by_name() {
    let world = World::new(&[("a", 5)]).await;
    let plain = world.publish(MIN_PIECE_BYTES).await.unwrap();
    std::os::unix::fs::symlink("a", world.folder().join("link")).unwrap();
    fs::create_dir(world.folder().join("nothing")).unwrap();
    let draft = world.publish(MIN_PIECE_BYTES).await.unwrap();
    assert_eq!(draft.metainfo.infohash, plain.metainfo.infohash, "not in the torrent");
    assert_ne!(draft.root, plain.root, "in the DAG");

    let refuse = async |what: &str| {
        let error = world.publish(MIN_PIECE_BYTES).await.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    let socket = std::os::unix::net::UnixListener::bind(world.folder().join("socket")).unwrap();
    refuse("socket: no regular file").await;
    fs::remove_file(world.folder().join("socket")).unwrap();
    drop(socket);
    let odd = world.folder().join(std::ffi::OsString::from_vec(vec![b'x', 0xff]));
    fs::write(&odd, "x").unwrap();
    refuse("its name is not UTF-8").await;
    fs::remove_file(odd).unwrap();
    fs::write(world.folder().join("a\\b"), "x").unwrap();
    refuse("no torrent can be made of").await;
    fs::remove_file(world.folder().join("a\\b")).unwrap();
    fs::write(world.folder().join("a"), "").unwrap();
    refuse("there is not a single byte in it").await;
    fs::remove_dir_all(world.folder()).unwrap();
    refuse("folder: No such file").await;
}

#[tokio::test]
async fn a_copy_needs_the_files_no_more() {
    let world = World::new(&[("a", 3 * MIB), ("b", 100)]).await;
    let options = PublishOptions { copy: true, ..world.options(64 << 10) };
    let draft = publish(&world.store, &options, |_| {}).await.unwrap();
    let all = [fs::read(world.folder().join("a")).unwrap(), fs::read(world.folder().join("b")).unwrap()].concat();
    fs::remove_dir_all(world.folder()).unwrap();
    assert_eq!(world.store.usage().referenced_blocks, 0);
    for (piece, hash) in all.chunks(64 << 10).zip(&draft.pieces) {
        let stored = world.store.read_all(&BlockHash::sha1(*hash)).await.unwrap().unwrap();
        assert!(stored.as_ref() == piece);
    }
    assert!(journal::is_here(&world.store, &draft.root).await.unwrap());
}

#[tokio::test]
async fn a_piece_in_more_files_than_a_reference_may_name_is_copied() {
    let names: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 7)).collect();
    let world = World::new(&files).await;
    let draft = world.publish(MIN_PIECE_BYTES).await.unwrap();
    let hash = BlockHash::sha1(draft.pieces[0]);
    draft.seal().await.unwrap();
    fs::remove_dir_all(world.folder()).unwrap();
    assert_eq!(world.store.read_all(&hash).await.unwrap().unwrap().len(), 2100);
}

#[tokio::test]
async fn the_length_of_pieces_follows_the_size_and_what_was_asked() {
    let world = World::new(&[("a", 5)]).await;
    let chosen = |total: u64, longest_chosen| {
        let options = PublishOptions { piece_len: None, longest_chosen, ..world.options(0) };
        piece_len(&options, total).unwrap()
    };
    assert_eq!(chosen(5, MAX_PIECE_BYTES), 16 << 10);
    assert_eq!(chosen(2_000 * (16 << 10), MAX_PIECE_BYTES), 16 << 10);
    assert_eq!(chosen(2_000 * (16 << 10) + 1, MAX_PIECE_BYTES), 32 << 10);
    assert_eq!(chosen(1 << 40, MAX_PIECE_BYTES), 16 << 20);
    assert_eq!(chosen(1 << 40, 5 << 20), 4 << 20);
    for wrong in [0, 1, 8 << 10, 100_000, 32 << 20] {
        assert!(matches!(world.publish(wrong).await, Err(PublishError::PieceLength(_))), "{wrong}");
    }
}

#[tokio::test]
async fn a_job_that_nobody_goes_on_with_is_let_go() {
    let world = World::new(&[("a", MIB)]).await;
    drop(world.publish(MIN_PIECE_BYTES).await.unwrap());
    assert_eq!(world.store.pinned_roots().len(), 1);
    Journal::forget_old(&world.store).await.unwrap();
    assert_eq!(world.store.pinned_roots().len(), 1, "it is fresh");
    let records = world.store.list_records("publish-journal").await.unwrap();
    let (key, _) = records.iter().find(|(key, _)| key.len() == 32).unwrap();
    world.store.put_record("publish-journal", key, Bytes::from_static(b"{\"at\":1000}")).await.unwrap();
    Journal::forget_old(&world.store).await.unwrap();
    world.assert_nothing_is_left().await;
}
