//! Blocks that stay in files which are not the store's: what they cost, and what becomes of them when a file changes.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use swarmgate_content::{BlockHash, HashKind};
use swarmgate_store::{Namer, Origin, Part, ReadError, ReferError, Reference, Store, StoreEvent, StoreOptions};
use tempfile::TempDir;

use crate::kit::{both, bytes_on_disk, data, file_of, options, put, reopen};

const BLOCK: usize = 100_000;
const BLOCKS: usize = 3;

/// Less than the file, and so little memory that no block of it is kept there.
const BUDGET: u64 = 2 * BLOCK as u64;

/// A file of three blocks.
struct Film {
    dir: TempDir,
    path: PathBuf,
    bytes: Bytes,
}

impl Film {
    fn new(number: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (path, bytes) = (dir.path().join("folder/film"), data(number, BLOCKS * BLOCK));
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(&path, &bytes).unwrap();
        Self { dir, path, bytes }
    }

    fn block(&self, at: usize) -> Bytes {
        self.bytes.slice(at * BLOCK..(at + 1) * BLOCK)
    }

    fn hash(&self, at: usize) -> BlockHash {
        HashKind::Sha2_256.hash(&self.block(at))
    }

    fn origin(&self) -> Arc<Origin> {
        Arc::new(Origin::new(&self.path, &fs::metadata(&self.path).unwrap()).unwrap())
    }

    /// References all of it as it is now.
    async fn refer(&self, store: &Store, root: &str) {
        let origin = self.origin();
        let mut references = Vec::new();
        for at in 0..BLOCKS {
            let part = part(&origin, at * BLOCK..(at + 1) * BLOCK);
            let block = store.verifier().verify(self.hash(at), self.block(at)).await.unwrap();
            references.push(Reference::new(&block, vec![part]).unwrap());
        }
        store.refer(root, &references).await.unwrap();
    }

    /// Which of its blocks are served. What is served is right, and what is not is not here.
    async fn served(&self, store: &Store) -> Vec<usize> {
        let mut served = Vec::new();
        for at in 0..BLOCKS {
            for range in [7..70_000, 0..BLOCK] {
                let asked = u32::try_from(range.start).unwrap()..u32::try_from(range.end).unwrap();
                match store.read(&self.hash(at), asked).await.unwrap() {
                    Some(read) => assert!(read.as_ref() == &self.block(at)[range], "block {at} was served wrong"),
                    None => assert!(!store.contains(&self.hash(at)), "block {at} is said to be here"),
                }
            }
            if store.contains(&self.hash(at)) {
                served.push(at);
            }
        }
        served
    }

    /// Writes other bytes under the same name.
    fn overwrite(&self, at: Range<usize>) {
        let mut bytes = fs::read(&self.path).unwrap();
        bytes[at].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(&self.path, bytes).unwrap();
    }
}

fn part(origin: &Arc<Origin>, bytes: Range<usize>) -> Part {
    let len = u32::try_from(bytes.len()).unwrap();
    Part { origin: Arc::clone(origin), offset: bytes.start as u64, len }
}

#[tokio::test]
async fn a_file_is_served_from_where_it_lies_and_takes_nothing_of_the_budget() {
    for store in both(BUDGET).await {
        let film = Film::new(1);
        film.refer(&store, "film").await;
        assert_eq!(film.served(&store).await, [0, 1, 2]);
        for (start, end) in [(0, 0), (0, 1), (99_999, 100_000), (100_000, 100_000), (3, 65_539)] {
            let read = store.read(&film.hash(1), start..end).await.unwrap().unwrap();
            assert!(read.as_ref() == &film.block(1)[start as usize..end as usize], "{start}..{end}");
        }
        let beyond = store.read(&film.hash(1), 99_999..100_001).await.unwrap_err();
        assert!(matches!(beyond, ReadError::OutOfRange { len: 100_000, .. }), "{beyond}");
        assert_eq!(store.block_len(&film.hash(2)), Some(100_000));
        let usage = store.usage();
        assert_eq!((usage.bytes, usage.blocks, usage.pinned_bytes), (0, 0, 0));
        assert_eq!((usage.referenced_blocks, usage.referenced_bytes), (3, 300_000));
        if let Some(dir) = &store.dir {
            assert_eq!(bytes_on_disk(dir.path()), 0);
        }
        for number in 10..20 {
            put(&store, number, BLOCK).await;
        }
        store.clear().await;
        assert_eq!(film.served(&store).await, [0, 1, 2], "neither evicted nor cleared");
    }
}

/// What is done to a file, and which of its three blocks are served after that.
type Fate = (&'static str, fn(&Film), &'static [usize]);

const FATES: [Fate; 11] = [
    ("it vanishes", |film| fs::remove_file(&film.path).unwrap(), &[]),
    ("its folder is moved", move_folder, &[]),
    ("it is cut short", |film| cut(film, 150_000), &[0]),
    ("it is emptied", |film| cut(film, 0), &[]),
    ("another of the same length replaces it", replace, &[]),
    ("it is written to", |film| film.overwrite(150_000..150_001), &[0, 2]),
    ("it is written to under its old time", back_in_time, &[1, 2]),
    ("a folder takes its name", folder, &[]),
    ("a symlink to itself takes its name", |film| link(film, "film"), &[]),
    ("a symlink to another file takes its name", link_to_another, &[]),
    ("a symlink to the moved file takes its name", link_to_itself_moved, &[0, 1, 2]),
];

fn move_folder(film: &Film) {
    fs::rename(film.dir.path().join("folder"), film.dir.path().join("moved")).unwrap();
}

fn folder(film: &Film) {
    fs::remove_file(&film.path).unwrap();
    fs::create_dir(&film.path).unwrap();
}

fn link_to_another(film: &Film) {
    replace(film);
    link(film, "other");
}

fn link_to_itself_moved(film: &Film) {
    fs::copy(&film.path, film.path.with_file_name("moved")).unwrap();
    link(film, "moved");
}

fn cut(film: &Film, len: u64) {
    File::options().write(true).open(&film.path).unwrap().set_len(len).unwrap();
}

fn replace(film: &Film) {
    let other = film.path.with_file_name("other");
    fs::write(&other, data(99, BLOCKS * BLOCK)).unwrap();
    fs::copy(&other, film.path.with_extension("new")).unwrap();
    fs::rename(film.path.with_extension("new"), &film.path).unwrap();
}

fn back_in_time(film: &Film) {
    let before = fs::metadata(&film.path).unwrap().modified().unwrap();
    film.overwrite(3..4);
    File::options().write(true).open(&film.path).unwrap().set_modified(before).unwrap();
    assert_eq!(fs::metadata(&film.path).unwrap().modified().unwrap(), before);
}

fn link(film: &Film, to: &str) {
    fs::remove_file(&film.path).unwrap();
    std::os::unix::fs::symlink(to, &film.path).unwrap();
}

#[tokio::test]
async fn whatever_becomes_of_a_file_no_wrong_byte_is_served() {
    for (what, happens, left) in FATES {
        for store in both(BUDGET).await {
            let film = Film::new(1);
            film.refer(&store, "film").await;
            happens(&film);
            assert_eq!(film.served(&store).await, left, "{what}");
            assert_eq!(film.served(&store).await, left, "{what}, once more");
            // Pins outlive what they pin, and the right bytes are welcome again.
            store.put(store.verifier().verify(film.hash(1), film.block(1)).await.unwrap()).await.unwrap();
            assert!(film.served(&store).await.contains(&1), "{what}");
        }
    }
}

#[tokio::test]
async fn a_file_that_was_touched_or_has_grown_is_served_on() {
    for store in both(BUDGET).await {
        let film = Film::new(1);
        film.refer(&store, "film").await;
        let file = File::options().write(true).open(&film.path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(film.served(&store).await, [0, 1, 2]);
        file.set_len(BLOCKS as u64 * BLOCK as u64 + 1).unwrap();
        assert_eq!(film.served(&store).await, [0, 1, 2]);
    }
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_a_miss() {
    use std::os::unix::fs::PermissionsExt;
    for store in both(BUDGET).await {
        let film = Film::new(1);
        film.refer(&store, "film").await;
        fs::set_permissions(&film.path, fs::Permissions::from_mode(0o000)).unwrap();
        // To the superuser nothing is forbidden.
        let left: &[usize] = if File::open(&film.path).is_ok() { &[0, 1, 2] } else { &[] };
        assert_eq!(film.served(&store).await, left);
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_served_after_the_next_start_or_when_it_is_added_again() {
    let dir = tempfile::tempdir().unwrap();
    let (film, away) = (Film::new(1), tempfile::tempdir().unwrap());
    let store = Store::open(options(dir.path(), BUDGET)).await.unwrap();
    film.refer(&store, "film").await;
    let hidden = away.path().join("film");
    fs::rename(&film.path, &hidden).unwrap();
    assert!(film.served(&store).await.is_empty());
    fs::rename(&hidden, &film.path).unwrap();
    assert!(film.served(&store).await.is_empty(), "nobody has looked again");
    store.close().await;
    let store = reopen(dir.path(), BUDGET).await;
    assert_eq!(film.served(&store).await, [0, 1, 2]);
    fs::rename(&film.path, &hidden).unwrap();
    assert!(film.served(&store).await.is_empty());
    fs::rename(&hidden, &film.path).unwrap();
    film.refer(&store, "film").await;
    assert_eq!(film.served(&store).await, [0, 1, 2]);
}

#[tokio::test]
async fn references_survive_a_stop_without_a_close_and_what_was_lost_stays_lost() {
    let dir = tempfile::tempdir().unwrap();
    let film = Film::new(1);
    let store = Store::open(options(dir.path(), BUDGET)).await.unwrap();
    film.refer(&store, "film").await;
    drop(store);
    let store = reopen(dir.path(), BUDGET).await;
    assert_eq!((store.usage().referenced_blocks, store.pinned_roots()), (3, vec!["film".to_owned()]));
    assert_eq!(film.served(&store).await, [0, 1, 2]);
    film.overwrite(0..1);
    assert_eq!(film.served(&store).await, [1, 2]);
    film.overwrite(0..1);
    store.flush().await.unwrap();
    drop(store);
    assert_eq!(film.served(&reopen(dir.path(), BUDGET).await).await, [1, 2], "it was dropped for good");
}

#[tokio::test]
async fn a_reference_goes_with_its_last_pin_and_the_file_stays() {
    for store in both(BUDGET).await {
        let film = Film::new(1);
        film.refer(&store, "one").await;
        store.pin("two", [film.hash(0)]);
        let mut events = store.subscribe();
        store.unpin("one");
        assert_eq!(film.served(&store).await, [0]);
        let Ok(StoreEvent::Evicted(mut gone)) = events.recv().await else { panic!("nobody was told") };
        let mut expected = [film.hash(1), film.hash(2)];
        gone.sort_unstable();
        expected.sort_unstable();
        assert_eq!(gone, expected);
        store.unpin("two");
        assert_eq!(store.usage().referenced_blocks, 0);
        assert!(film.served(&store).await.is_empty());
        assert_eq!(fs::read(&film.path).unwrap(), film.bytes);
        if let Some(dir) = &store.dir {
            store.close().await;
            let store = reopen(dir.path(), BUDGET).await;
            assert_eq!((store.usage().referenced_blocks, store.pinned_roots()), (0, vec![]));
        }
    }
}

#[tokio::test]
async fn a_copy_in_the_store_goes_before_the_file_and_removing_takes_both() {
    for store in both(BUDGET).await {
        let film = Film::new(1);
        store.put(store.verifier().verify(film.hash(0), film.block(0)).await.unwrap()).await.unwrap();
        film.refer(&store, "film").await;
        store.put(store.verifier().verify(film.hash(1), film.block(1)).await.unwrap()).await.unwrap();
        assert_eq!(store.usage().pinned_bytes, 2 * BLOCK as u64, "a pinned copy counts");
        fs::remove_file(&film.path).unwrap();
        assert_eq!(film.served(&store).await, [0, 1]);
        assert!(store.remove(&film.hash(0)).await);
        assert_eq!(film.served(&store).await, [1]);
        fs::write(&film.path, &film.bytes).unwrap();
        film.refer(&store, "film").await;
        assert!(store.remove(&film.hash(2)).await && !store.remove(&film.hash(2)).await);
        assert_eq!(film.served(&store).await, [0, 1]);
        assert_eq!(fs::read(&film.path).unwrap(), film.bytes);
    }
}

#[tokio::test]
async fn when_a_copy_is_damaged_the_file_stands_in() {
    let dir = tempfile::tempdir().unwrap();
    let film = Film::new(1);
    let store = Store::open(options(dir.path(), BUDGET)).await.unwrap();
    store.put(store.verifier().verify(film.hash(1), film.block(1)).await.unwrap()).await.unwrap();
    film.refer(&store, "film").await;
    fs::write(file_of(dir.path(), &film.hash(1)), data(9, BLOCK)).unwrap();
    drop(store);
    let store = reopen(dir.path(), BUDGET).await;
    assert_eq!((film.served(&store).await, store.usage().blocks), (vec![0, 1, 2], 0));
}

#[tokio::test]
async fn a_piece_of_a_torrent_lies_in_many_files() {
    for store in both(BUDGET).await {
        let films = [Film::new(1), Film::new(2), Film::new(3)];
        let origins = films.each_ref().map(Film::origin);
        let whole = BLOCKS * BLOCK;
        let bytes: Bytes = [&films[0].bytes[whole - 10..], &films[1].bytes, &films[2].bytes[..10]].concat().into();
        let hash = HashKind::Sha1.hash(&bytes);
        let block = store.verifier().verify(hash, bytes.clone()).await.unwrap();
        let parts = vec![part(&origins[0], whole - 10..whole), part(&origins[1], 0..whole), part(&origins[2], 0..10)];
        store.refer("item", &[Reference::new(&block, parts).unwrap()]).await.unwrap();
        for range in [0..300_020, 5..15, 300_005..300_015, 100_000..100_001] {
            let asked = u32::try_from(range.start).unwrap()..u32::try_from(range.end).unwrap();
            assert!(store.read(&hash, asked).await.unwrap().unwrap().as_ref() == &bytes[range]);
        }
        films[2].overwrite(10..20);
        assert!(store.read(&hash, 0..1).await.unwrap().is_some(), "what lies behind it may change");
        films[2].overwrite(9..10);
        assert!(store.read(&hash, 0..1).await.unwrap().is_none());
        assert_eq!(store.usage().referenced_blocks, 0);
    }
}

#[tokio::test]
async fn the_zeros_that_a_piece_is_padded_with_lie_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path(), BUDGET)).await.unwrap();
    let film = Film::new(1);
    let (file, whole) = (10..BLOCK, BLOCK + 500);
    let bytes = [&film.bytes[file.clone()], &[0; 510]].concat();
    let mut namer = Namer::new(HashKind::Sha1);
    namer.update(&bytes);
    let named = namer.finish();
    let padded = |zeros| Reference::padded(&named, vec![part(&film.origin(), file.clone())], zeros);
    assert!(padded(0).is_none() && padded(511).is_none(), "it is not as long as the block");
    store.refer("item", &[padded(510).unwrap()]).await.unwrap();
    drop(store);

    let store = reopen(dir.path(), BUDGET).await;
    assert_eq!((store.usage().referenced_blocks, store.usage().referenced_bytes), (1, whole as u64));
    for range in [0..whole, file.len() - 5..file.len() + 5, file.len()..whole, whole - 1..whole] {
        let asked = u32::try_from(range.start).unwrap()..u32::try_from(range.end).unwrap();
        assert!(store.read(named.hash(), asked).await.unwrap().unwrap().as_ref() == &bytes[range]);
    }
    film.overwrite(BLOCK..BLOCK + 1);
    assert!(store.read(named.hash(), 0..1).await.unwrap().is_some(), "what lies behind it may change");
    film.overwrite(BLOCK - 1..BLOCK);
    assert!(store.read(named.hash(), 0..1).await.unwrap().is_none());
    assert_eq!(store.usage().referenced_blocks, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_is_written_to_while_many_read_it_never_gives_a_wrong_byte() {
    for store in both(BUDGET).await {
        let film = Arc::new(Film::new(1));
        let (mut right, mut missed) = (0, 0);
        for round in 0..40 {
            film.refer(&store, "film").await;
            let mut reads = tokio::task::JoinSet::new();
            for reader in 0..8u32 {
                let (store, film) = (Store::clone(&store), Arc::clone(&film));
                reads.spawn(async move {
                    let (start, end) = (reader * 1000, 50_000 + reader * 1000);
                    let read = store.read(&film.hash(1), start..end).await.unwrap();
                    let right = &film.block(1)[start as usize..end as usize];
                    read.map(|read| assert!(read.as_ref() == right, "a wrong byte")).is_some()
                });
            }
            let writer = Arc::clone(&film);
            let writing = tokio::task::spawn_blocking(move || {
                std::thread::sleep(std::time::Duration::from_micros(round * 20));
                writer.overwrite(150_000 + usize::try_from(round).unwrap()..190_000);
            });
            while let Some(read) = reads.join_next().await {
                if read.unwrap() { right += 1 } else { missed += 1 }
            }
            writing.await.unwrap();
            fs::write(&film.path, &film.bytes).unwrap();
        }
        println!("{right} reads were right, {missed} found nothing");
        assert!(right > 0, "the file was there at times");
    }
}

#[tokio::test]
async fn what_was_read_stays_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { memory_bytes: 8 * BLOCK as u64, ..options(dir.path(), BUDGET) };
    let store = Store::open(options).await.unwrap();
    let film = Film::new(1);
    film.refer(&store, "film").await;
    assert!(store.read(&film.hash(1), 5..6).await.unwrap().is_some());
    assert_eq!(store.usage().memory_bytes, BLOCK as u64);
    fs::remove_file(&film.path).unwrap();
    let read = store.read(&film.hash(1), 0..100_000).await.unwrap().unwrap();
    assert!(read.as_ref() == film.block(1), "as right as when it was read");
    store.unpin("film");
    assert_eq!((store.usage().memory_bytes, store.contains(&film.hash(1))), (0, false));
}

#[tokio::test]
async fn a_closed_store_and_a_root_with_too_long_a_name_are_refused() {
    for store in both(BUDGET).await {
        let film = Film::new(1);
        let block = store.verifier().verify(film.hash(0), film.block(0)).await.unwrap();
        let reference = [Reference::new(&block, vec![part(&film.origin(), 0..BLOCK)]).unwrap()];
        let refused = store.refer(&"x".repeat(1025), &reference).await.unwrap_err();
        assert!(matches!(refused, ReferError::LongName { len: 1025, limit: 1024 }), "{refused}");
        store.refer(&"x".repeat(1024), &reference).await.unwrap();
        store.close().await;
        assert!(matches!(store.refer("film", &reference).await, Err(ReferError::Closed)));
        assert!(matches!(store.read(&film.hash(0), 0..1).await, Err(ReadError::Closed)));
    }
}

#[tokio::test]
async fn of_each_file_that_changed_the_log_warns_once_with_its_path() {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(Listener(Arc::clone(&warnings))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path(), BUDGET)).await.unwrap();
    let (gone, changed) = (Film::new(1), Film::new(2));
    gone.refer(&store, "films").await;
    changed.refer(&store, "films").await;
    fs::remove_file(&gone.path).unwrap();
    changed.overwrite(0..BLOCKS * BLOCK);
    for film in [&gone, &changed] {
        assert!(film.served(&store).await.is_empty());
    }
    for (film, why) in [(&gone, "No such file or directory"), (&changed, "it was changed or replaced since")] {
        let path = film.path.display().to_string();
        let said: Vec<String> = warnings.lock().iter().filter(|line: &&String| line.contains(&path)).cloned().collect();
        assert!(said.len() == 1 && said[0].contains(why), "{said:?}");
    }
}

/// Writes down what is warned of.
struct Listener(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn fmt::Debug| {
            write!(line, "{field}={value:?} ").unwrap();
        });
        self.0.lock().push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
