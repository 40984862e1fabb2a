//! A cursor: one worker's place in one file, and what of it is under way.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limits::Dropped;
use crate::batch::{Batch, Run};
use crate::catalog::file::{LogFile, Source};
use crate::catalog::name::Rotation;
use crate::catalog::origin::Origin;
use crate::position::{Cut, Entry, Held, OpenGroup, Position, Skipped};
use crate::read::Framing;
use crate::stats::{Loss, LossReason};

/// How long a file that could not be read is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// A place in a file.
#[derive(Debug)]
pub struct Cursor {
    /// Names the cursor within its worker.
    pub id: u64,
    /// The file.
    pub file: Arc<LogFile>,
    /// The beginning of its records' `_id`: key and hyphen.
    pub id_text: Vec<u8>,
    /// Where reading goes on.
    pub at: Position,
    /// Where this reading of the file began.
    began: Position,
    /// Groups that our clock has ended.
    pub cuts: Vec<Cut>,
    /// Not all of them are saved: until they are, nothing may be read that could tell.
    pub held: bool,
    /// Up to where it was written before the output began: see [`Entry::past`].
    pub past: u64,
    /// The open file, between the turns that follow each other, and how often it had moved when it was opened.
    source: Option<Source>,
    moves: u32,
    /// How often it was set back.
    pub epoch: u32,
    /// When something was last read.
    last_read: Instant,
    acknowledged: Held,
    /// Stretches under way in the order of reading: runs, and what was passed over.
    under_way: VecDeque<Stretch>,
    first_under_way: u64,
    /// Records before this may have been sent before: by an earlier process, or before a set-back.
    doubtful_until: u64,
    /// Records up to this were read before a set-back, and rate limits have judged them: they are sent.
    pub judged_until: u64,
    /// The size at which nothing more was to be read.
    end_seen: u64,
    /// What lies behind this is lost and counted.
    lost_from: Option<u64>,
    state: State,
    /// The agent stops, and there is a next file: nobody waits to be told that this one is settled.
    is_left: bool,
    /// How far the first lines of the next file belong to the last records of this one, as far as this reading has found.
    pub taken: Skipped,
    /// The next file, where a record of this one goes on there and its end has not come.
    following: Option<Box<Following>>,
    retry_at: Option<Instant>,
    /// Whether it has been told that the file cannot be read.
    told: bool,
}

/// A file that is looked into for the end of a record of the one before.
#[derive(Debug)]
struct Following {
    file: Arc<LogFile>,
    /// Its size when it was last looked into, and whether that was all.
    seen: u64,
    was_settled: bool,
    /// The records, as far as they went by then.
    pending: [Option<OpenGroup>; 2],
    /// It is to be looked into though it has not grown: our clock has ended them.
    due: bool,
}

/// A stretch of the file that is read, and that the position has not moved over.
#[derive(Debug)]
struct Stretch {
    end: Held,
    /// Acknowledged, or passed over.
    done: bool,
    left_out: LeftOut,
}

/// What of a stretch was left out by decision. It counts when the position moves over it, since before that it may be
/// read again, and be decided anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeftOut {
    /// By rate limits.
    pub dropped: Dropped,
    /// Because the output lags.
    pub lagged: Loss,
    /// Records that the route does not send.
    pub filtered: u64,
}

impl LeftOut {
    fn add(&mut self, more: LeftOut) {
        self.dropped.add(more.dropped);
        self.lagged.add(more.lagged);
        self.filtered += more.filtered;
    }
}

/// A position that has moved.
#[derive(Debug)]
pub struct Moved {
    /// To where.
    pub to: Position,
    /// What was left out on the way.
    pub left_out: LeftOut,
}

/// What a read that failed came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Bytes that will never be read, and why: the file is gone.
    pub lost: Option<(u64, LossReason)>,
    /// Whether it is the first since the file could last be read.
    pub first: bool,
}

/// How far a cursor has come with its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The file is settled and read to its end.
    Finished,
    /// And everything of it is acknowledged, and the file released.
    Released,
}

impl Cursor {
    /// A cursor where the positions say. `again`: this process has sent of the file before, and forgotten how much.
    pub fn new(id: u64, file: Arc<LogFile>, known: Option<Entry>, again: bool) -> Cursor {
        let known = known.unwrap_or_default();
        let doubtful = if !file.at_start && !again && known == Entry::default() {
            0
        } else if file.name.packed {
            u64::MAX
        } else {
            file.size()
        };
        Cursor {
            id,
            id_text: format!("{}-", file.key).into_bytes(),
            file,
            at: known.position,
            began: known.position,
            cuts: known.cuts,
            held: false,
            past: known.past,
            source: None,
            moves: 0,
            epoch: 0,
            last_read: Instant::now(),
            acknowledged: known.position.into(),
            under_way: VecDeque::new(),
            first_under_way: 0,
            doubtful_until: doubtful,
            judged_until: 0,
            end_seen: 0,
            lost_from: None,
            state: State::Reading,
            is_left: false,
            taken: Skipped::default(),
            following: None,
            retry_at: None,
            told: false,
        }
    }

    /// The catalog had forgotten the file and has found it again: it is read on in what it is now.
    pub fn found_again(&mut self, file: Arc<LogFile>) {
        if Arc::ptr_eq(&self.file, &file) {
            return;
        }
        self.file = file;
        (self.source, self.following) = (None, None);
        self.end_seen = 0;
        self.retry_at = None;
        // The end of it, if it has one, is to be seen and released anew.
        self.state = State::Reading;
    }

    /// Gives the cursor up, for another to be made: the file is wanted again if it had been released.
    pub fn give_up(self) -> Arc<LogFile> {
        if self.state == State::Released {
            self.file.claim();
        }
        self.file
    }

    /// What orders the files of a container.
    pub fn order(&self) -> Order<'_> {
        order(&self.file)
    }

    /// Whether a turn would find something.
    pub fn is_readable(&self) -> bool {
        self.has_more() && self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    fn has_more(&self) -> bool {
        !self.held && self.has_unread()
    }

    /// Whether there is something to read, now or when it may be.
    pub fn has_unread(&self) -> bool {
        match self.state {
            State::Reading => match &self.following {
                Some(next) => {
                    let settled = !next.was_settled && next.file.is_settled();
                    next.due || settled || next.file.size() > next.seen
                }
                // A settled file is read once more, for the end that ends its last record.
                None => self.file.size() > self.end() || self.is_settled(),
            },
            State::Finished | State::Released => self.has_grown(),
        }
    }

    /// Whether a file that was read to its end has grown since.
    pub fn has_grown(&self) -> bool {
        self.file.size() > self.end() && !self.file.name.packed
    }

    /// The size at which nothing more is to be read.
    pub fn end(&self) -> u64 {
        self.at.offset.max(self.end_seen)
    }

    /// Whether it is in the middle of a compressed file.
    pub fn is_inflating(&self) -> bool {
        matches!(self.source, Some(Source::Packed { .. }))
    }

    /// Whether it has read a settled file to its end.
    pub fn is_finished(&self) -> bool {
        self.state != State::Reading
    }

    /// Whether everything of a settled file is acknowledged.
    pub fn is_delivered(&self) -> bool {
        self.is_finished() && self.under_way.is_empty()
    }

    /// Whether batches with something of it are under way.
    pub fn has_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether it has been at the end of the file when that had `size` bytes.
    pub fn has_seen(&self, size: u64) -> bool {
        self.end_seen >= size.max(self.at.offset)
    }

    /// Whether nothing more will be written to the file.
    pub fn is_settled(&self) -> bool {
        self.is_left || self.file.is_settled()
    }

    /// The next file is there, and nobody will say any more that this one is settled.
    pub fn leave(&mut self) {
        self.is_left = true;
    }

    /// Whether a record waits for its end.
    pub fn has_open(&self) -> bool {
        self.at.open[..2].iter().any(Option::is_some)
    }

    /// Whether it may turn out that the next file begins with the end of a record of this one.
    pub fn holds_next(&self) -> bool {
        self.state == State::Reading && self.has_open() && self.retry_at.is_none()
    }

    /// A record goes on in the next file, which had that size, and was settled or not, as far as `pending` tells.
    pub fn waits_for(
        &mut self,
        file: Arc<LogFile>,
        (seen, was_settled): (u64, bool),
        pending: [Option<OpenGroup>; 2],
    ) {
        if self.following.as_ref().is_none_or(|known| known.pending != pending) {
            self.last_read = Instant::now();
        }
        self.following = Some(Box::new(Following { file, seen, was_settled, pending, due: false }));
    }

    /// The first lines belong to the last record of the file before.
    pub fn skip(&mut self, skipped: Skipped) {
        self.at.skipped = skipped;
        self.acknowledged = Position { skipped, ..self.acknowledged() }.into();
    }

    /// Goes back to the first line, of which more are its own than was thought.
    pub fn begin_with(&mut self, skipped: Skipped) {
        self.acknowledged = Position { skipped, ..Position::default() }.into();
        self.set_back();
    }

    /// How far the first lines of the next file belong to the last records of this one, where an earlier reading has found
    /// that it is as far as `had`: that stands where this reading had nothing more to read of a stream.
    pub fn taken_after(&self, had: Skipped) -> Skipped {
        let read_nothing = self.began.offset == self.at.offset;
        Skipped([0, 1].map(|lane| match self.began.open[lane] {
            None if read_nothing => had.0[lane],
            _ => self.taken.0[lane],
        }))
    }

    /// What is left of it was delivered before, by another reading: there is no need to inflate all of it for that. A log
    /// that a container runtime has compressed has one member, so that its trailer tells the size of all.
    pub fn is_packed_and_done(&self) -> bool {
        self.file.name.packed
            && matches!(*self.file.origin, Origin::Container(_))
            && self.at.offset > 0
            && self.at.offset == self.file.size()
            && self.source.is_none()
            && !self.has_open()
    }

    /// Its end is reached without a look at it.
    pub fn finish(&mut self) {
        self.end_seen = self.at.offset;
        self.state = State::Finished;
    }

    /// The file in which a record was looked for cannot be looked into any more: what is open ends in this one.
    pub fn follow_no_more(&mut self) {
        self.following = None;
    }

    /// Whether a record waits for its end of which it is not known yet that our clock ended it.
    pub fn lacks_cuts(&self) -> bool {
        let is_cut = |group: &OpenGroup| self.cuts.contains(&Cut { first: group.first, end: group.end });
        !self.file.name.packed && !self.at.open[..2].iter().flatten().all(is_cut)
    }

    /// The records that wait for their end, as far as they go by now.
    fn open(&self) -> impl Iterator<Item = &OpenGroup> {
        let pending = self.following.as_ref().map(|next| &next.pending);
        pending.map_or(&self.at.open[..2], |pending| &pending[..]).iter().flatten()
    }

    /// Since when, or from when on, a record that waits for its end has been silent for long and can be read: for `gap`,
    /// where a line is not whole, else for `timeout`.
    pub fn silent_at(&self, gap: Duration, timeout: Duration) -> Option<Instant> {
        let patience = self.open().map(|group| if group.whole { timeout } else { gap }).max()?;
        let silent = self.last_read + patience;
        (self.state == State::Reading).then(|| self.retry_at.map_or(silent, |at| silent.max(at)))
    }

    /// Ends the records that wait for their end, here and now; where they end is to be saved, and the cursor held until it
    /// is.
    pub fn cut(&mut self) -> Vec<Cut> {
        self.held = true;
        let cuts: Vec<Cut> = self.open().map(|group| Cut { first: group.first, end: group.end }).collect();
        if let Some(next) = &mut self.following {
            next.due = true;
        }
        for cut in &cuts {
            if !self.cuts.contains(cut) {
                self.cuts.push(*cut);
            }
        }
        cuts
    }

    /// Bytes on disk that are not acknowledged, but for a host file's last line whose end has not come.
    pub fn lag(&self) -> u64 {
        if self.is_delivered() {
            return 0;
        }
        (self.file.size() - self.unended()).saturating_sub(self.acknowledged().offset)
    }

    /// Bytes behind the last whole line of a host's file, which may grow: they are its writer's, and wait in the file.
    fn unended(&self) -> u64 {
        let size = self.file.size();
        let is_read = self.state == State::Reading && self.has_seen(size) && !self.is_settled();
        if is_read && self.file.framing == Framing::Lines { size.saturating_sub(self.at.offset) } else { 0 }
    }

    /// Where the oldest record begins that is not acknowledged.
    pub fn oldest(&self) -> u64 {
        self.acknowledged().oldest()
    }

    /// Bytes on disk that are not read.
    pub fn unread(&self) -> u64 {
        if self.is_finished() { 0 } else { self.file.size().saturating_sub(self.at.offset) }
    }

    /// When a read that failed is tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.has_more())
    }

    /// Before a turn: a file that had been finished and grew after all is taken up again.
    pub fn read_on(&mut self) {
        self.retry_at = None;
        if self.state == State::Released {
            self.file.claim();
        }
        self.state = State::Reading;
    }

    /// The open file, for a turn.
    pub fn take_source(&mut self) -> io::Result<Source> {
        let moves = self.file.moves();
        let source = self.source.take().filter(|_| moves == self.moves);
        self.moves = moves;
        source.map_or_else(|| self.file.open(), Ok)
    }

    /// Lets go of an open file that is of no use any more: while it is open, its bytes lie on the disk.
    pub fn drop_stale_source(&mut self) {
        if self.file.moves() != self.moves {
            self.source = None;
        }
    }

    /// A turn went well, and there may be more: the file stays open for the next. Not one that was opened for this turn
    /// alone, since there are too many to be held open: thousands of containers would each have one in the end.
    pub fn keep_source(&mut self, source: Source) {
        let is_held = !matches!(&source, Source::Plain(file) if Arc::strong_count(file) == 1);
        self.source = is_held.then_some(source);
        self.told = false;
    }

    /// A read failed: it is tried again later, unless the file, or the part that was to be read, is gone; then this is
    /// its end.
    pub fn fail(&mut self, error: &io::Error) -> Failure {
        (self.source, self.following) = (None, None);
        let is_missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof);
        if is_missing && (self.file.is_gone() || self.file.is_truncated()) {
            let size = self.file.size();
            self.end_seen = size;
            self.state = State::Finished;
            self.retry_at = None;
            let otherwise = if self.file.is_gone() { LossReason::Deleted } else { LossReason::Cut };
            let reason = self.file.loss().unwrap_or(otherwise);
            return Failure { lost: Some((self.lose_to(size), reason)), first: true };
        }
        self.retry_at = Some(Instant::now() + RETRY);
        Failure { lost: None, first: !std::mem::replace(&mut self.told, true) }
    }

    /// What lies between here and `end` is lost: its bytes, but for those that were lost before, and this cursor set back
    /// since then.
    pub fn lose_to(&mut self, end: u64) -> u64 {
        let unread = self.at.oldest();
        let known = self.lost_from.replace(self.lost_from.map_or(unread, |known| known.min(unread)));
        end.min(known.unwrap_or(end)).saturating_sub(unread)
    }

    /// A turn reached the end of the file, which had `size` bytes and was `settled` when it began. Returns what is wrong
    /// if the end is not the true one.
    pub fn reached_end(&mut self, size: u64, settled: bool, source: Source) -> Option<(LossReason, String)> {
        self.end_seen = size.max(self.at.offset);
        self.told = false;
        self.following = None;
        if !settled {
            return None;
        }
        self.state = State::Finished;
        match source {
            Source::Packed { damage, .. } => damage.map(|damage| (LossReason::Damaged, damage)),
            // Nobody writes to it any more, but somebody may empty it to get room on the disk.
            Source::Plain(_) if self.at.offset < size => {
                Some((LossReason::Cut, "it was truncated".to_owned()))
            }
            Source::Plain(_) => None,
        }
    }

    /// Enters what was read since `start` into the batch.
    pub fn add_run(
        &mut self,
        batch: &mut Batch,
        (start, begun): (Position, i64),
        items: u32,
        left_out: LeftOut,
    ) {
        let now = Instant::now();
        let line_bytes = batch.take_line_bytes(items);
        self.last_read = now;
        batch.opened.get_or_insert(now);
        let end = self.at;
        let number = self.first_under_way + self.under_way.len() as u64;
        if let (Some(last), Some(stretch)) = (batch.runs.last_mut(), self.under_way.back_mut())
            && (last.cursor, last.epoch, last.number + 1) == (self.id, self.epoch, number)
        {
            last.end = end;
            last.items += items;
            last.line_bytes += line_bytes;
            stretch.end = end.into();
            stretch.left_out.add(left_out);
            return;
        }
        batch.runs.push(Run {
            cursor: self.id,
            epoch: self.epoch,
            number,
            start,
            end,
            items,
            line_bytes,
            begun,
            in_doubt: start.oldest() < self.doubtful_until,
        });
        self.under_way.push_back(Stretch { end: end.into(), done: false, left_out });
    }

    /// A run is acknowledged; returns how the position moves, if it does: over this one and those after it that were
    /// acknowledged earlier, never over one that is not.
    pub fn acknowledge(&mut self, run: &Run) -> Option<Moved> {
        let place = run.number.checked_sub(self.first_under_way)? as usize;
        self.under_way.get_mut(place)?.done = true;
        self.advance()
    }

    /// What was read up to here without being sent is passed over: as good as acknowledged, once all before it is.
    pub fn pass_over(&mut self, lagged: Loss) -> Option<Moved> {
        let end = self.at;
        match self.under_way.back_mut() {
            // Grown, since in an outage there is one after the other. Nobody refers to one that is done any more.
            Some(last) if last.done => {
                last.end = end.into();
                last.left_out.lagged.add(lagged);
            }
            _ => {
                let left_out = LeftOut { lagged, ..LeftOut::default() };
                self.under_way.push_back(Stretch { end: end.into(), done: true, left_out });
            }
        }
        self.advance()
    }

    /// Passes over all that is left of a settled file, without reading it.
    pub fn pass_to_end(&mut self) -> Option<Moved> {
        let end = self.file.size().max(self.at.offset);
        let lagged = Loss::unread(end - self.at.oldest());
        self.at = Position { offset: end, open: Default::default(), ..self.at };
        self.end_seen = end;
        (self.state, self.source, self.retry_at) = (State::Finished, None, None);
        self.following = None;
        self.pass_over(lagged)
    }

    fn acknowledged(&self) -> Position {
        (&self.acknowledged).into()
    }

    fn advance(&mut self) -> Option<Moved> {
        let before = self.acknowledged.clone();
        let mut left_out = LeftOut::default();
        while let Some(stretch) = self.under_way.pop_front_if(|stretch| stretch.done) {
            self.acknowledged = stretch.end;
            left_out.add(stretch.left_out);
            self.first_under_way += 1;
        }
        if self.under_way.is_empty() {
            // Of many thousand files few are under way at a time: the room for it is given back.
            self.under_way = VecDeque::new();
        }
        let oldest = self.acknowledged().oldest();
        self.cuts.retain(|cut| cut.first >= oldest);
        (self.acknowledged != before).then(|| Moved { to: self.acknowledged(), left_out })
    }

    /// Goes back to the lowest place that is not acknowledged. What was under way counts no more.
    pub fn set_back(&mut self) {
        self.doubtful_until = self.doubtful_until.max(self.at.offset);
        self.judged_until = self.judged_until.max(self.at.offset);
        self.epoch += 1;
        self.first_under_way += self.under_way.len() as u64;
        self.under_way.clear();
        self.at = self.acknowledged();
        self.began = self.at;
        self.end_seen = 0;
        (self.source, self.following, self.taken) = (None, None, Skipped::default());
        if self.state == State::Finished {
            self.state = State::Reading;
        }
    }

    /// Tells the catalog that this output needs the file no more.
    pub fn release_if_delivered(&mut self) {
        if self.state == State::Finished && self.under_way.is_empty() {
            self.release();
        }
    }

    /// This output needs the file no more, wherever the cursor stands.
    pub fn release(&mut self) {
        if self.state != State::Released {
            self.file.release();
            self.state = State::Released;
        }
    }
}

/// What orders the files of a container.
pub fn order(file: &LogFile) -> Order<'_> {
    (file.name.restart, &file.name.rotation, file.sequence)
}

/// The run, when it was rotated, and when it was found.
pub type Order<'a> = (u32, &'a Rotation, u64);
