//! The catalog against a small tree, step by step: no thread, no waiting for hints.

use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, sleep};
use std::time::SystemTime;

const POD: &str = "shop_web_u1";
const ROTATED: &str = "0.log.20261123-155401";

struct World {
    folder: tempfile::TempDir,
    scanner: Scanner,
    files: Receiver<Arc<LogFile>>,
}

impl World {
    fn new() -> World {
        World::with_descriptors(100)
    }

    fn with_descriptors(descriptors: usize) -> World {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pods")).unwrap();
        let (scanner, files) = scanner(folder.path(), descriptors);
        World { folder, scanner, files }
    }

    fn path(&self, pod: &str, file: &str) -> PathBuf {
        self.folder.path().join("pods").join(pod).join("app").join(file)
    }

    fn append(&self, pod: &str, file: &str, text: &str) {
        let path = self.path(pod, file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rescan(&mut self) -> Vec<Arc<LogFile>> {
        self.scanner.rescan();
        self.files.try_iter().collect()
    }

    fn tick(&mut self) -> Vec<Arc<LogFile>> {
        self.scanner.tick(HashSet::new());
        self.files.try_iter().collect()
    }

    /// Ticks until files that were left have settled, and more.
    fn ticks(&mut self) -> Vec<Arc<LogFile>> {
        let mut found = Vec::new();
        for _ in 0..25 {
            found.extend(self.tick());
            sleep(Duration::from_millis(50));
        }
        found
    }

    fn directory(&self, pod: &str) -> Option<&Directory> {
        self.scanner.directories.get(&Path::new(pod).join("app"))
    }

    /// Lets a container's silence be long enough for a watch.
    fn silence(&mut self) {
        let long_ago = Instant::now().checked_sub(QUIET * 2).unwrap();
        // Directories that changed just now are listed once more first.
        sleep(Duration::from_millis(30));
        self.tick();
        self.scanner.directories.values_mut().for_each(|directory| directory.active_at = long_ago);
        self.tick();
    }

    fn read(&self, file: &LogFile) -> String {
        let mut buffer = vec![0; 1 << 16];
        let read = file.open().unwrap().read_at(&mut buffer, 0).unwrap();
        String::from_utf8(buffer[..read].to_vec()).unwrap()
    }

    fn pack(&self, pod: &str, file: &str) {
        let (plain, packed) = (self.path(pod, file), self.path(pod, &format!("{file}.gz")));
        let mut encoder =
            flate2::write::GzEncoder::new(fs::File::create(packed).unwrap(), flate2::Compression::fast());
        encoder.write_all(&fs::read(plain).unwrap()).unwrap();
        encoder.finish().unwrap();
    }
}

/// A catalog that has seen nothing yet, and what it finds.
fn scanner(folder: &Path, descriptors: usize) -> (Scanner, Receiver<Arc<LogFile>>) {
    let (files, found) = mpsc::channel();
    let mut scanner = Scanner::new(
        Settings {
            roots: Arc::new(Roots::new(folder.join("pods"), vec![folder.join("docker")])),
            keys: KeyMaker { cluster: "c".into(), node: "n".into() },
            rescan: Duration::from_secs(3600),
            tick: Duration::from_millis(10),
            outputs: 1,
            descriptors: Descriptors::new(descriptors),
            retention: None,
            kept: Vec::new(),
        },
        Arc::default(),
    );
    scanner.subscribers.push(Subscriber { files, wake: Arc::default() });
    (scanner, found)
}

#[test]
fn a_first_look_in_the_middle_of_a_rotation_finds_no_file_before_the_one_in_front_of_it() {
    let world = World::new();
    let done = AtomicBool::new(false);
    world.append(POD, "0.log", "0\n");
    let live = world.path(POD, "0.log");
    thread::scope(|scope| {
        scope.spawn(|| {
            let rotated = |number: u64| live.with_file_name(format!("0.log.20261123-{number:06}"));
            for number in 1.. {
                fs::rename(&live, rotated(number)).unwrap();
                fs::write(&live, format!("{number}\n")).unwrap();
                if number > 4 {
                    fs::remove_file(rotated(number - 4)).unwrap();
                }
                if done.load(Ordering::Relaxed) {
                    return;
                }
                // As quick as it may be and still let a look end.
                sleep(Duration::from_micros(200));
            }
        });
        let mut looks = 0;
        while looks < 300 {
            let (mut scanner, files) = scanner(world.folder.path(), 100);
            scanner.rescan();
            let found: Vec<u64> =
                files.try_iter().map(|file| world.read(&file).trim_end().parse().unwrap()).collect();
            looks += i32::from(found.len() > 1);
            let in_order = found.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            // Told before anything else, so that the thread ends either way.
            done.store(!in_order || looks == 300, Ordering::Relaxed);
            assert!(in_order, "{found:?}");
        }
    });
}

#[test]
fn a_rotation_is_followed_to_the_gz_while_nobody_has_read() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let first = world.rescan().remove(0);
    fs::rename(world.path(POD, "0.log"), world.path(POD, ROTATED)).unwrap();
    world.append(POD, ROTATED, "two\n");
    assert!(world.tick().is_empty() && !first.is_settled(), "nothing has followed it yet");
    world.append(POD, "0.log", "three\n");
    let second = world.ticks();
    assert_eq!(second.len(), 1);
    assert!(first.is_settled() && !first.is_gone() && !second[0].is_settled());
    world.pack(POD, ROTATED);
    assert!(world.ticks().is_empty(), "the same bytes once more");
    fs::remove_file(world.path(POD, ROTATED)).unwrap();
    assert!(world.ticks().is_empty());
    assert!(!first.is_gone(), "it lives on as .gz");
    assert_eq!(world.read(&first), "one\ntwo\n");
    // Read to its end now: the descriptor goes, the file is remembered, and is forgotten when kubelet removes it.
    first.release();
    world.rescan();
    world.rescan();
    assert_eq!(
        (world.directory(POD).unwrap().files.len(), world.scanner.settings.descriptors.used()),
        (2, 1)
    );
    assert_eq!(world.read(&first), "one\ntwo\n", "from the .gz");
    fs::remove_file(world.path(POD, &format!("{ROTATED}.gz"))).unwrap();
    world.ticks();
    assert_eq!(world.directory(POD).unwrap().files.len(), 1);
}

#[test]
fn two_rotations_between_two_looks_leave_the_files_in_the_order_of_their_writing() {
    for packed in [false, true] {
        let mut world = World::new();
        world.append(POD, "0.log", "1 one\n");
        let mut files = world.rescan();
        for (text, time) in [("2 two\n", "20261123-155401"), ("3 three\n", "20261123-155402")] {
            let rotated = format!("0.log.{time}");
            fs::rename(world.path(POD, "0.log"), world.path(POD, &rotated)).unwrap();
            if packed && time.ends_with('1') {
                world.pack(POD, &rotated);
                fs::remove_file(world.path(POD, &rotated)).unwrap();
            }
            world.append(POD, "0.log", text);
        }
        files.extend(world.rescan());
        files.sort_by(|one, other| {
            crate::worker::cursor::order(one).cmp(&crate::worker::cursor::order(other))
        });
        let texts: Vec<String> = files.iter().map(|file| world.read(file)).collect();
        assert_eq!(texts, ["1 one\n", "2 two\n", "3 three\n"], "packed: {packed}");
    }
}

#[test]
fn without_descriptors_a_file_is_followed_by_its_path() {
    let mut world = World::with_descriptors(0);
    world.append(POD, "0.log", "one\n");
    let file = world.rescan().remove(0);
    world.ticks();
    world.append(POD, "0.log", "two\n");
    world.tick();
    assert_eq!(file.size(), 8, "seen at a tick, though the directory did not change");
    fs::rename(world.path(POD, "0.log"), world.path(POD, ROTATED)).unwrap();
    world.append(POD, "0.log", "three\n");
    assert_eq!(world.ticks().len(), 1);
    assert_eq!(world.read(&file), "one\ntwo\n");
    // A descriptor that has become free is given to a file that has none.
    world.scanner.settings.descriptors = Descriptors::new(1);
    world.rescan();
    assert_eq!(world.scanner.settings.descriptors.used(), 1);
}

#[test]
fn a_root_that_is_away_is_not_taken_for_deleted_logs() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let file = world.rescan().remove(0);
    let (root, aside) = (world.folder.path().join("pods"), world.folder.path().join("aside"));
    fs::rename(&root, &aside).unwrap();
    world.ticks();
    world.rescan();
    world.rescan();
    assert!(!file.is_gone() && !file.is_settled());
    fs::rename(&aside, &root).unwrap();
    world.append(POD, "0.log", "two\n");
    assert!(world.ticks().is_empty());
    assert_eq!((file.is_gone(), file.size()), (false, 8));
}

#[test]
fn a_root_that_appears_later_is_found_by_a_tick() {
    let mut world = World::new();
    fs::remove_dir(world.folder.path().join("pods")).unwrap();
    assert!(world.rescan().is_empty());
    assert!(world.scanner.is_asking());
    world.append(POD, "0.log", "one\n");
    assert_eq!(world.tick().len(), 1);
}

#[test]
fn a_root_that_is_replaced_is_watched_anew() {
    let mut world = World::new();
    world.rescan();
    let root = world.folder.path().join("pods");
    let identity = |world: &World| Seen::now(world.scanner.settings.roots.logs()).identity.unwrap();
    fs::rename(&root, world.folder.path().join("aside")).unwrap();
    fs::create_dir(&root).unwrap();
    world.append(POD, "0.log", "one\n");
    assert_eq!(world.rescan().len(), 1);
    let now = identity(&world);
    assert!(world.scanner.root.watched && world.scanner.watches.add(Path::new(""), now));
    assert_eq!(world.scanner.watches.count(), 2, "the new root and the pod");
}

#[test]
fn a_directory_that_comes_back_is_read_on_when_its_readers_have_let_go() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let file = world.rescan().remove(0);
    let (pod, aside) = (world.folder.path().join("pods").join(POD), world.folder.path().join("aside"));
    fs::rename(&pod, &aside).unwrap();
    world.rescan();
    assert!(file.is_gone() && file.is_settled() && world.directory(POD).unwrap().vanished);
    fs::rename(&aside, &pod).unwrap();
    world.append(POD, "0.log", "two\n");
    assert!(world.rescan().is_empty(), "its readers still read the old one");
    // They read from the descriptor to its end. Only then is there a second reader for the same key.
    file.release();
    let again = world.ticks();
    assert_eq!(again.len(), 1);
    assert!(again[0].key == file.key && !again[0].is_settled() && !again[0].is_gone());
}

#[test]
fn a_pod_deleted_while_it_is_read_costs_nothing_and_is_forgotten_when_it_is_read() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let file = world.rescan().remove(0);
    fs::remove_dir_all(world.folder.path().join("pods").join(POD)).unwrap();
    world.rescan();
    assert!(world.directory(POD).unwrap().vanished);
    assert_eq!((world.read(&file).as_str(), world.scanner.settings.descriptors.used()), ("one\n", 1));
    file.release();
    world.tick();
    assert!(world.directory(POD).is_none());
    assert_eq!(
        (world.scanner.settings.descriptors.used(), world.scanner.pods.len(), world.scanner.watches.count()),
        (0, 0, 1)
    );
}

#[test]
fn a_pod_made_again_under_the_same_name_is_watched_and_read() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let file = world.rescan().remove(0);
    fs::remove_dir_all(world.folder.path().join("pods").join(POD)).unwrap();
    world.append(POD, "0.log", "other\n");
    let again = world.rescan().into_iter().chain(world.ticks()).collect::<Vec<_>>();
    assert_eq!(again.len(), 1);
    assert!(file.is_gone() && world.read(&file) == "one\n" && world.read(&again[0]) == "other\n");
    // The watch is that of the new directory: a container that comes now makes a hint.
    let inbox = world.scanner.inbox.clone();
    inbox.take(Instant::now(), Instant::now());
    fs::create_dir(world.folder.path().join("pods").join(POD).join("sidecar")).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    let mut hinted = HashSet::new();
    while !hinted.contains(Path::new(POD)) && Instant::now() < until {
        hinted.extend(inbox.take(until, Instant::now()).dirty);
    }
    assert!(hinted.contains(Path::new(POD)), "{hinted:?}");
}

#[test]
fn one_listing_that_lacks_a_file_deletes_nothing() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let file = world.rescan().remove(0);
    let aside = world.folder.path().join("aside");
    fs::rename(world.path(POD, "0.log"), &aside).unwrap();
    world.rescan();
    assert!(!file.is_gone());
    fs::rename(&aside, world.path(POD, ROTATED)).unwrap();
    assert!(world.tick().is_empty() && !file.is_gone());
    fs::remove_file(world.path(POD, ROTATED)).unwrap();
    world.ticks();
    assert!(file.is_gone());
}

#[test]
fn a_file_cut_short_is_another_file_from_then_on() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\ntwo\n");
    let old = world.rescan().remove(0);
    fs::write(world.path(POD, "0.log"), "new\n").unwrap();
    let new = world.ticks();
    assert_eq!(new.len(), 1, "at a tick: the directory says nothing of it");
    assert!(old.is_gone() && new[0].key != old.key && new[0].size() == 4);
    let error = old.open().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "nobody reads the new content as the old");
    assert_eq!(world.scanner.settings.descriptors.used(), 1);
}

#[test]
fn an_empty_file_and_half_a_line_are_left_alone_until_they_grow() {
    let mut world = World::new();
    world.append(POD, "0.log", "");
    world.append("shop_api_u2", "0.log", "half a li");
    assert!(world.rescan().is_empty());
    world.silence();
    assert!(world.directory(POD).unwrap().watched, "a container that never says anything costs nothing");
    assert!(world.scanner.directories.values().all(|directory| !directory.relist));
    world.scanner.follow_hints([Path::new("shop_api_u2").join("app")].into());
    world.append("shop_api_u2", "0.log", "ne\n");
    assert_eq!(world.tick().len(), 1);
}

#[test]
fn half_a_line_in_a_file_that_was_left_becomes_a_key_only_when_nobody_writes_to_it() {
    let mut world = World::new();
    world.append(POD, "0.log", "half a li");
    world.append(POD, "1.log", "one\n");
    assert_eq!(world.rescan().len(), 1, "the write may be under way");
    assert_eq!(world.ticks().len(), 1);
}

#[test]
fn growth_that_no_hint_told_of_is_found_by_the_rescan_and_the_watch_renewed() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let file = world.rescan().remove(0);
    world.silence();
    assert!(world.directory(POD).unwrap().watched);
    world.append(POD, "0.log", "two\n");
    world.rescan();
    assert_eq!(file.size(), 8);
    assert!(!world.directory(POD).unwrap().watched);
}

#[test]
fn without_watches_new_pods_and_containers_are_found_by_ticks() {
    let mut world = World::new();
    world.scanner.watches.take_all();
    world.append(POD, "0.log", "one\n");
    assert_eq!(world.rescan().len(), 1);
    sleep(Duration::from_millis(30));
    assert!(world.scanner.is_asking());
    world.append("shop_api_u2", "0.log", "one\n");
    assert_eq!(world.tick().len(), 1);
    let sidecar = world.folder.path().join("pods").join(POD).join("sidecar");
    fs::create_dir(&sidecar).unwrap();
    fs::write(sidecar.join("0.log"), "one\n").unwrap();
    assert_eq!(world.tick().len(), 1);
}

#[test]
fn a_link_that_leads_to_another_file_is_followed_and_never_left_to_a_watch() {
    let mut world = World::new();
    let docker = world.folder.path().join("docker");
    fs::create_dir(&docker).unwrap();
    fs::write(docker.join("json.log"), "one\n").unwrap();
    fs::create_dir_all(world.path(POD, "")).unwrap();
    symlink(docker.join("json.log"), world.path(POD, "0.log")).unwrap();
    let first = world.rescan().remove(0);
    world.silence();
    assert!(!world.directory(POD).unwrap().watched, "what happens to the target makes no event here");
    fs::rename(docker.join("json.log"), docker.join("json.log.1")).unwrap();
    fs::write(docker.join("json.log"), "two\n").unwrap();
    assert_eq!(world.ticks().len(), 1);
    assert!(first.is_gone() && world.read(&first) == "one\n");
}

#[test]
fn what_cannot_be_read_is_told_once_and_told_again_after_it_was_well() {
    let mut world = World::new();
    fs::create_dir_all(world.path(POD, "0.log")).unwrap();
    world.append("shop_file_u3", "0.log", "one\n");
    fs::write(world.folder.path().join("pods/shop_file_u3/not-a-folder"), "x").unwrap();
    assert_eq!(world.rescan().len(), 1);
    assert_eq!(world.scanner.told.unreadable.len(), 2);
    sleep(Duration::from_millis(30));
    world.ticks();
    let directory = &world.scanner.directories[Path::new("shop_file_u3/not-a-folder")];
    assert!(!directory.relist, "not asked again at every tick");
    fs::remove_dir_all(world.folder.path().join("pods").join(POD)).unwrap();
    fs::remove_dir_all(world.folder.path().join("pods/shop_file_u3")).unwrap();
    world.rescan();
    assert_eq!(world.scanner.told.unreadable.len(), 0, "nothing is remembered of what is gone");
}

#[test]
fn names_that_are_no_text_are_passed_over() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let odd = OsStr::from_bytes(b"\xff0.log");
    fs::write(world.path(POD, "").join(odd), "x\n").unwrap();
    fs::create_dir_all(world.folder.path().join("pods").join(OsStr::from_bytes(b"a_b_\xff")).join("app"))
        .unwrap();
    assert_eq!(world.rescan().len(), 1);
}

#[test]
fn many_hints_wake_the_thread_once_and_wait_for_their_time() {
    let inbox = Inbox::default();
    for n in 0..1000 {
        inbox.hint(|r| {
            r.dirty.insert(PathBuf::from(format!("{}", n % 10)));
        });
    }
    let (begun, from) = (Instant::now(), Instant::now() + Duration::from_millis(50));
    assert_eq!(inbox.take(begun + Duration::from_secs(10), from).dirty.len(), 10);
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[test]
fn nothing_is_opened_while_nothing_changes() {
    use notify::Watcher;
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    let app = world.path(POD, "");
    let pod = app.parent().unwrap().to_owned();
    world.rescan();
    // Long enough ago that any later change would show.
    for directory in [&app, &pod] {
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        fs::File::open(directory).unwrap().set_modified(long_ago).unwrap();
    }
    world.rescan();

    let (tell, told) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(tell).unwrap();
    for directory in [&app, &pod] {
        watcher.watch(directory, notify::RecursiveMode::NonRecursive).unwrap();
    }
    world.rescan();
    world.rescan();
    fs::write(app.join("sentinel"), "").unwrap();
    let opened = |event: &notify::Event| matches!(event.kind, notify::EventKind::Access(_));
    let first = told.iter().map(Result::unwrap).next().unwrap();
    assert!(!opened(&first), "{first:?}");
    assert!(first.paths[0].ends_with("sentinel"), "{first:?}");
    // And what a rescan must see, it sees.
    world.append(POD, "1.log", "two\n");
    world.append(POD, "0.log", "three\n");
    assert_eq!(world.rescan().len(), 1);
}

#[test]
fn a_file_that_loses_our_name_is_read_on_from_its_gz() {
    let mut world = World::with_descriptors(0);
    world.append(POD, "0.log", "one\ntwo\n");
    let file = world.rescan().remove(0);
    fs::rename(world.path(POD, "0.log"), world.path(POD, ROTATED)).unwrap();
    world.append(POD, "0.log", "three\n");
    assert_eq!(world.ticks().len(), 1);
    let kept = world.folder.path().join("kept");
    fs::hard_link(world.path(POD, ROTATED), &kept).unwrap();
    assert!(file.keep(kept.clone(), &fs::File::open(&kept).unwrap()).unwrap());
    world.pack(POD, ROTATED);
    fs::remove_file(world.path(POD, ROTATED)).unwrap();
    assert!(world.ticks().is_empty() && !file.is_gone());
    assert_eq!(world.read(&file), "one\ntwo\n");
    let moves = file.moves();
    fs::remove_file(file.set_adrift().unwrap()).unwrap();
    assert!(file.open().is_err() && file.moves() > moves, "whoever has it open opens it again");
    assert!(world.rescan().is_empty());
    assert!(matches!(file.open().unwrap(), file::Source::Packed { .. }));
    assert_eq!(world.read(&file), "one\ntwo\n");
}

#[test]
fn what_was_retained_is_taken_up_only_where_its_log_is_gone() {
    let mut world = World::new();
    world.append(POD, "0.log", "one\n");
    world.append("shop_gone_u2", "0.log", "other\n");
    let files = world.rescan();
    let container = |pod: &str, uid: &str| origin::Container {
        namespace: "shop".into(),
        pod: pod.into(),
        uid: uid.into(),
        name: "app".into(),
    };
    let keep = |of: origin::Container, sequence| {
        let path = world.folder.path().join(format!("kept-{sequence}"));
        fs::hard_link(world.folder.path().join("pods").join(of.directory()).join("0.log"), &path).unwrap();
        let key = files.iter().find(|f| f.origin.uid() == of.uid).unwrap().key;
        let whose = crate::retain::Whose::Container(of, 0);
        Kept { whose, sequence, key, packed: false, begins: 0, path }
    };
    let kept = vec![keep(container("web", "u1"), 7), keep(container("gone", "u2"), 8)];
    fs::remove_dir_all(world.folder.path().join("pods/shop_gone_u2")).unwrap();

    let mut settings = world.scanner.settings.clone();
    settings.kept = kept;
    let mut after = Scanner::new(settings, Arc::default());
    let (send, found) = mpsc::channel();
    after.subscribers.push(Subscriber { files: send, wake: Arc::default() });
    after.rescan();
    after.adopt();
    let found: Vec<_> = found.try_iter().collect();
    assert_eq!(found.len(), 2);
    assert!(!found[0].is_gone() && found[0].kept().is_some(), "it is still there, and has our name");
    assert!(found[1].is_gone() && found[1].is_settled());
    assert!(found[1].name < found[0].name, "the older first");
    assert_eq!((world.read(&found[1]).as_str(), found[1].sequence), ("other\n", 8));
    found[1].release();
    after.tick(HashSet::new());
    assert!(!after.directories.contains_key(Path::new("shop_gone_u2/app")), "read, and forgotten");
}

#[test]
fn a_container_that_speaks_is_asked_at_every_tick_however_many_are_silent() {
    let mut world = World::new();
    world.scanner.watches.take_all();
    let pods: Vec<String> = (0..60).map(|n| format!("shop_web_u{n:02}")).collect();
    pods.iter().for_each(|pod| world.append(pod, "0.log", "one\n"));
    assert_eq!(world.rescan().len(), 60);
    // No time for the silent ones: each tick asks the least that it can.
    world.scanner.silent_pods = Round::new(Duration::ZERO);
    world.scanner.silent_containers = Round::new(Duration::ZERO);
    let sizes = |world: &World| {
        pods.iter().map(|pod| world.directory(pod).unwrap().files[0].file.size()).collect::<Vec<_>>()
    };
    world.append(&pods[59], "0.log", "two\n");
    (0..4).for_each(|_| drop(world.tick()));
    assert_eq!(sizes(&world)[59], 8, "each is asked in its turn");
    for size in [12, 16, 20] {
        world.append(&pods[59], "0.log", "two\n");
        world.tick();
        assert_eq!(sizes(&world)[59], size, "and now that it has spoken, at every tick");
    }
}
