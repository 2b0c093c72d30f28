//! Folders on a real disk become torrents and DAGs.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use swarmgate_bittorrent_proto::metainfo::hash_pieces;
use swarmgate_content::merkle::{LEAF_BYTES, Root, leaf, node};
use swarmgate_content::{BlockHash, Cid, HashKind, TorrentId};
use swarmgate_ipfs_proto::build::{FileBuilder, Profile};
use swarmgate_store::StoreOptions;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::tree::SourceFile;
use super::*;

const MIB: usize = 1 << 20;

const KINDS: [TorrentKind; 2] = [TorrentKind::V1, TorrentKind::Hybrid];

/// A folder, a store on disk, and which torrent is made.
struct World {
    dir: TempDir,
    store: Store,
    kind: TorrentKind,
}

impl World {
    async fn new(files: &[(&str, usize)]) -> Self {
        Self::of(TorrentKind::V1, files).await
    }

    async fn of(kind: TorrentKind, files: &[(&str, usize)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (seed, (path, len)) in (0..).zip(files) {
            let path = dir.path().join("folder").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, noise(seed, *len)).unwrap();
        }
        let store = Self::open(dir.path()).await;
        Self { dir, store, kind }
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
            torrent: self.kind,
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

/// The root of a file's leaves, as the specification has it: padded to a power of two of them, or to whole pieces where
/// it has several.
fn plain_root(bytes: &[u8], leaves: usize) -> Root {
    let mut layer: Vec<Root> = bytes.chunks(LEAF_BYTES).map(leaf).collect();
    layer.resize(leaves, [0; 32]);
    while layer.len() > 1 {
        layer = layer.chunks(2).map(|pair| node(&pair[0], &pair[1])).collect();
    }
    layer[0]
}

#[tokio::test]
async fn one_read_gives_a_hybrid_whose_halves_and_dag_are_of_the_same_bytes() {
    let files = [
        ("a film.mkv", 3 * MIB + 77),
        ("b/.hidden", 10),
        ("b/empty", 0),
        ("b/ünïcode ☃.txt", 32 << 10),
        ("c", 20_000),
        ("z/last", 2 * MIB + 1),
        ("zz empty", 0),
    ];
    let world = World::of(TorrentKind::Hybrid, &files).await;
    let draft = world.publish(32 << 10).await.unwrap();
    let bytes = files.map(|(path, _)| fs::read(world.folder().join(path)).unwrap());
    let mut padded: Vec<u8> = Vec::new();
    for file in bytes.iter().filter(|file| !file.is_empty()) {
        padded.resize(padded.len().next_multiple_of(32 << 10), 0);
        padded.extend_from_slice(file);
    }
    let read = Metainfo::parse(&draft.metainfo.to_torrent().into()).unwrap();
    assert_eq!(read.id, draft.metainfo.id);
    assert_eq!(draft.pieces.concat(), hash_pieces(&padded, 32 << 10), "and so says an independent hash of the whole");
    let tree = read.info.tree.as_ref().unwrap();
    let roots: Vec<Root> = tree.files().iter().map(|file| file.root).collect();
    let plain = |file: &&Vec<u8>| plain_root(file, file.len().div_ceil(LEAF_BYTES).next_power_of_two());
    assert_eq!(roots, bytes.iter().filter(|file| !file.is_empty()).map(|file| plain(&file)).collect::<Vec<_>>());
    let film = &tree.files()[0];
    let layer = tree.part(film, read.info.roots.as_ref().unwrap());
    let pieces = bytes[0].chunks(32 << 10).map(|piece| plain_root(piece, 2));
    assert_eq!(layer, pieces.collect::<Vec<_>>().concat());

    let numbers: Vec<u32> = draft.files.iter().map(|file| file.number).collect();
    assert_eq!(numbers, [0, 2, 4, 5, 6, 8, 9], "padding has numbers too");
    for ((file, (path, _)), bytes) in draft.files.iter().zip(files).zip(&bytes) {
        let entry = &read.info.files[file.number as usize];
        assert_eq!((entry.joined_path().as_str(), entry.len, file.cid), (path, bytes.len() as u64, cid_of(bytes)));
    }
    assert_eq!(draft.read_bytes, bytes.concat().len() as u64, "each byte once");
    assert!(world.store.usage().bytes < 60_000, "{} bytes were stored", world.store.usage().bytes);
    let plain = World::new(&files).await.publish(32 << 10).await.unwrap();
    assert_eq!(plain.root, draft.root, "the DAG is the same");

    let (hashes, id) = (draft.pieces.clone(), draft.metainfo.id);
    draft.seal().await.unwrap();
    for (piece, hash) in padded.chunks(32 << 10).zip(hashes) {
        let stored = world.store.read_all(&BlockHash::sha1(hash)).await.unwrap().unwrap();
        assert!(stored.as_ref() == piece, "padding and all");
    }
    let roots = HashKind::Sha2_256.hash(read.info.roots.as_ref().unwrap());
    for kept in [BlockHash::from(id.v1().unwrap()), BlockHash::from(TorrentId::V2(id.v2().unwrap())), roots] {
        assert!(world.store.contains(&kept), "{kept}");
    }
    world.store.clear().await;
    assert!(world.store.contains(&roots), "what peers ask for is pinned");
}

#[tokio::test]
async fn one_file_is_a_torrent_without_a_folder() {
    for kind in KINDS {
        let world = World::of(kind, &[("film.mkv", 100_000)]).await;
        let options = PublishOptions { path: world.folder().join("film.mkv"), ..world.options(MIN_PIECE_BYTES) };
        let draft = publish(&world.store, &options, |_| {}).await.unwrap();
        assert!(draft.metainfo.info.single_file);
        assert_eq!((draft.metainfo.info.name.as_str(), draft.root), ("film.mkv", draft.files[0].cid));
        draft.let_go().await.unwrap();
        world.assert_nothing_is_left().await;
    }
}

/// Files of 4 KiB; in a v1 torrent, four to a piece.
async fn many_files(kind: TorrentKind) -> World {
    let names: Vec<String> = (0..1_200).map(|n| format!("{n:04}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 4096)).collect();
    World::of(kind, &files).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_interrupted_goes_on_after_the_files_that_were_done() {
    for kind in KINDS {
        let world = many_files(kind).await;
        // What is noted is noted in batches, of some 400 files here, and of 256 in a hybrid.
        world.publish_until(MIN_PIECE_BYTES, 900 * 4096).await;
        world.store.close().await;
        let world = World { store: World::open(world.dir.path()).await, ..world };
        let again = world.publish(MIN_PIECE_BYTES).await.unwrap();
        let left = (1_200 - 700) * 4096;
        assert!(again.read_bytes < left, "{kind:?}: {} bytes were read again", again.read_bytes);
        let fresh = many_files(kind).await.publish(MIN_PIECE_BYTES).await.unwrap();
        assert_eq!((again.metainfo.id, again.root), (fresh.metainfo.id, fresh.root));
        again.seal().await.unwrap();
        assert_eq!(world.store.pinned_roots().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_has_changed_since_the_interruption_is_read_again_and_so_are_its_pieces() {
    for kind in KINDS {
        let world = many_files(kind).await;
        world.publish_until(MIN_PIECE_BYTES, 700 * 4096).await;
        fs::write(world.folder().join("0002"), noise(77_777, 4096)).unwrap();
        // Cut short once more, so that what was noted of the changed piece is put to the test.
        world.publish_until(MIN_PIECE_BYTES, 1_100 * 4096).await;
        let again = world.publish(MIN_PIECE_BYTES).await.unwrap();
        assert!(again.read_bytes < (1_200 - 800) * 4096, "{kind:?}: {}", again.read_bytes);
        let fresh = many_files(kind).await;
        fs::write(fresh.folder().join("0002"), noise(77_777, 4096)).unwrap();
        let fresh = fresh.publish(MIN_PIECE_BYTES).await.unwrap();
        assert_eq!((again.metainfo.id, again.root), (fresh.metainfo.id, fresh.root));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_noted_for_a_v1_torrent_is_no_word_about_a_hybrid() {
    let world = many_files(TorrentKind::V1).await;
    world.publish_until(MIN_PIECE_BYTES, 900 * 4096).await;
    let world = World { kind: TorrentKind::Hybrid, ..world };
    let hybrid = world.publish(MIN_PIECE_BYTES).await.unwrap();
    assert_eq!(hybrid.read_bytes, 1_200 * 4096, "all is hashed again");
    let fresh = many_files(TorrentKind::Hybrid).await.publish(MIN_PIECE_BYTES).await.unwrap();
    assert_eq!((hybrid.metainfo.id, hybrid.root), (fresh.metainfo.id, fresh.root));
    drop(hybrid);
    // The other way round, the v1 job is where it was.
    let world = World { kind: TorrentKind::V1, ..world };
    let v1 = world.publish(MIN_PIECE_BYTES).await.unwrap();
    assert!(v1.read_bytes < (1_200 - 800) * 4096, "{}", v1.read_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_of_a_hybrid_without_roots_are_hashed_again_rather_than_misread() {
    let world = many_files(TorrentKind::Hybrid).await;
    drop(world.publish(MIN_PIECE_BYTES).await.unwrap());
    for (key, value) in world.store.list_records("publish-journal").await.unwrap() {
        let mut note: serde_json::Value = serde_json::from_slice(&value).unwrap();
        if note.as_object_mut().unwrap().remove("roots").is_some() && key[35] % 2 == 0 {
            let note = serde_json::to_vec(&note).unwrap().into();
            world.store.put_record("publish-journal", &key, note).await.unwrap();
        }
    }
    let again = world.publish(MIN_PIECE_BYTES).await.unwrap();
    assert_eq!(again.read_bytes, 600 * 4096, "those of every second file were taken away");
    let fresh = many_files(TorrentKind::Hybrid).await.publish(MIN_PIECE_BYTES).await.unwrap();
    assert_eq!((again.metainfo.id, again.root), (fresh.metainfo.id, fresh.root));
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
    for kind in KINDS {
        let world = World::of(kind, &[("a", 3 * MIB + 5), ("b", 100)]).await;
        let options = PublishOptions { copy: true, ..world.options(64 << 10) };
        let draft = publish(&world.store, &options, |_| {}).await.unwrap();
        let mut all = fs::read(world.folder().join("a")).unwrap();
        if kind == TorrentKind::Hybrid {
            all.resize(all.len().next_multiple_of(64 << 10), 0);
        }
        all.extend(fs::read(world.folder().join("b")).unwrap());
        fs::remove_dir_all(world.folder()).unwrap();
        assert_eq!(world.store.usage().referenced_blocks, 0);
        assert_eq!(draft.pieces.len(), all.len().div_ceil(64 << 10));
        for (piece, hash) in all.chunks(64 << 10).zip(&draft.pieces) {
            let stored = world.store.read_all(&BlockHash::sha1(*hash)).await.unwrap().unwrap();
            assert!(stored.as_ref() == piece);
        }
        assert!(journal::is_here(&world.store, &draft.root).await.unwrap());
    }
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
    let chosen_for = |torrent, lens: &[u64], longest_chosen| {
        let options = PublishOptions { piece_len: None, torrent, longest_chosen, ..world.options(0) };
        piece_len(&options, || lens.iter().copied()).unwrap()
    };
    for kind in KINDS {
        let chosen = |total: u64, longest_chosen| chosen_for(kind, &[total], longest_chosen);
        assert_eq!(chosen(5, MAX_PIECE_BYTES), 16 << 10);
        assert_eq!(chosen(2_000 * (16 << 10), MAX_PIECE_BYTES), 16 << 10);
        assert_eq!(chosen(2_000 * (16 << 10) + 1, MAX_PIECE_BYTES), 32 << 10);
        assert_eq!(chosen(1 << 40, MAX_PIECE_BYTES), 16 << 20);
        assert_eq!(chosen(1 << 40, 5 << 20), 4 << 20);
    }
    // In a hybrid, longer pieces would not be fewer here, but for the padding's.
    let small = vec![20_000; 100_000];
    assert_eq!(chosen_for(TorrentKind::V1, &small, MAX_PIECE_BYTES), 1 << 20);
    assert_eq!(chosen_for(TorrentKind::Hybrid, &small, MAX_PIECE_BYTES), 32 << 10);
    let mixed: Vec<u64> = [vec![1; 30_000], vec![4 << 30]].concat();
    let len = u64::from(chosen_for(TorrentKind::Hybrid, &mixed, MAX_PIECE_BYTES));
    assert_eq!(len, 128 << 10);
    assert!(30_000 * len <= 4 << 30, "the padding is no more than the files");
    for wrong in [0, 1, 8 << 10, 100_000, 32 << 20] {
        assert!(matches!(world.publish(wrong).await, Err(PublishError::PieceLength(_))), "{wrong}");
    }
}

#[tokio::test]
async fn what_only_a_hybrid_cannot_be_made_of_is_refused_before_it_is_read_and_says_so() {
    let world = World::of(TorrentKind::Hybrid, &[("a", 1)]).await;
    let tree = Tree::look(&world.folder()).unwrap();
    let name = "x".repeat(200);
    let file = |number: usize| SourceFile {
        names: vec![format!("{number:06}{name}")],
        len: 1,
        origin: Arc::clone(&tree.files[0].origin),
    };
    let tree = Tree {
        path: tree.path.clone(),
        name: tree.name.clone(),
        top: Entry::Directory(Vec::new()),
        files: (0..60_000).map(file).collect(),
    };
    let refused = |kind| {
        let layout = Layout::new(kind, MIN_PIECE_BYTES, tree.files.iter().map(|file| file.len));
        try_out(&world.options(MIN_PIECE_BYTES), &tree, &layout).map_err(|error| error.to_string())
    };
    assert_eq!(refused(TorrentKind::V1), Ok(()));
    let error = refused(TorrentKind::Hybrid).unwrap_err();
    assert!(error.contains("no hybrid torrent can be made of") && error.contains("though a v1 torrent can"), "{error}");
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
