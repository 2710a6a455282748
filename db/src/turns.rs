//! Who gets a connection of a pool next.
//!
//! A command holds its connection while it waits for a lock, for two seconds at most. In one queue whoever sends
//! the most commands that wait would have all connections, and everybody else would stand behind them. Here
//! parties take turns, a party being a project, or a user who is in none; and no party has more than half
//! of the connections at once. What a process does for itself is a party too, which may have them all.
//!
//! Whom a task works for is known by the task, since everything that a request does is of its
//! party and nothing else is: [`request`] runs it, [`request_is_of`] says whose it is.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use uuid::Uuid;

/// `None`: the process itself.
type Party = Option<Uuid>;

/// Whoever has not said who he is.
const STRANGERS: Uuid = Uuid::nil();

tokio::task_local! {
    static PARTY: Cell<Party>;
}

/// Runs a request, which is of strangers until somebody says whose it is.
pub async fn request<F: Future>(work: F) -> F::Output {
    PARTY.scope(Cell::new(Some(STRANGERS)), work).await
}

/// The request that this task runs is of a project, or of a user without one.
pub fn request_is_of(party: Uuid) {
    // Outside of any request there is nobody to tell it.
    let _ = PARTY.try_with(|of| of.set(Some(party)));
}

/// Whom this task works for.
pub(crate) fn party() -> Party {
    PARTY.try_with(Cell::get).unwrap_or_default()
}

/// Those of one party, first come first served.
struct Waiting {
    party: Party,
    waiters: VecDeque<oneshot::Sender<Turn>>,
}

struct Queue {
    free: usize,
    /// How many turns each party has; none has zero.
    held: HashMap<Party, usize>,
    /// The front one is next. None is without waiters.
    parties: VecDeque<Waiting>,
}

impl Queue {
    fn has_share_left(&self, party: Party, share: usize) -> bool {
        party.is_none() || self.held.get(&party).is_none_or(|held| *held < share)
    }

    fn hold(&mut self, party: Party) {
        self.free -= 1;
        *self.held.entry(party).or_default() += 1;
    }

    fn release(&mut self, party: Party) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(&party) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&party);
            }
        }
    }

    fn push(&mut self, party: Party, waiter: oneshot::Sender<Turn>) {
        match self.parties.iter_mut().find(|waiting| waiting.party == party) {
            Some(waiting) => waiting.waiters.push_back(waiter),
            None => self.parties.push_back(Waiting { party, waiters: VecDeque::from([waiter]) }),
        }
    }

    /// Who has the next turn; his party goes to the end of the row. Who gave up is passed over.
    fn next(&mut self, share: usize) -> Option<(Party, oneshot::Sender<Turn>)> {
        while self.free > 0 {
            let at = self.parties.iter().position(|waiting| self.has_share_left(waiting.party, share))?;
            let mut waiting = self.parties.remove(at)?;
            let waiter = waiting.waiters.iter().position(|waiter| !waiter.is_closed());
            let waiter = waiter.and_then(|at| waiting.waiters.drain(..=at).next_back());
            let Some(waiter) = waiter else { continue };
            let party = waiting.party;
            if !waiting.waiters.is_empty() {
                self.parties.push_back(waiting);
            }
            self.hold(party);
            return Some((party, waiter));
        }
        None
    }
}

/// As many turns at once as a pool has connections.
pub(crate) struct Turns {
    queue: Mutex<Queue>,
    /// How many of them a party may have.
    share: usize,
}

/// Lasts as long as this value; then it is the next one's.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    party: Party,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.turns.queue();
            queue.release(self.party);
            queue.next(self.turns.share)
        };
        if let Some((party, waiter)) = next {
            // If it gives up at this moment the turn comes back here.
            drop(waiter.send(Self { turns: Arc::clone(&self.turns), party }));
        }
    }
}

impl Turns {
    /// So many at once.
    pub fn new(count: usize) -> Arc<Self> {
        let queue = Queue { free: count, held: HashMap::new(), parties: VecDeque::new() };
        Arc::new(Self { queue: Mutex::new(queue), share: count.div_ceil(2) })
    }

    /// Nothing between lock and unlock panics halfway.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        let live = |waiting: &Waiting| waiting.waiters.iter().filter(|waiter| !waiter.is_closed()).count();
        self.queue().parties.iter().map(live).sum()
    }

    /// A turn as soon as it is the party's; who stops waiting is passed over. Stands in the row when this
    /// returns.
    pub fn take(self: &Arc<Self>, party: Party) -> oneshot::Receiver<Turn> {
        let (waiter, turn) = oneshot::channel();
        let mut queue = self.queue();
        // Those who wait while turns are free have their share.
        if queue.free > 0 && queue.has_share_left(party, self.share) {
            queue.hold(party);
            drop(queue);
            // The receiver is here: it cannot fail.
            let _ = waiter.send(Turn { turns: Arc::clone(self), party });
        } else {
            queue.push(party, waiter);
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Party = Some(Uuid::from_u128(1));
    const BLUE: Party = Some(Uuid::from_u128(2));
    const GREEN: Party = Some(Uuid::from_u128(3));

    type Waiter = oneshot::Receiver<Turn>;

    fn had(waiter: &mut Waiter) -> Turn {
        waiter.try_recv().expect("it is its turn")
    }

    fn waits(waiter: &mut Waiter) -> bool {
        waiter.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
    }

    #[test]
    fn nobody_has_more_than_half_but_the_process_itself() {
        let turns = Turns::new(4);
        let mut red: Vec<Waiter> = (0..3).map(|_| turns.take(RED)).collect();
        let first = [had(&mut red[0]), had(&mut red[1])];
        assert!(waits(&mut red[2]), "half is the share of one");
        let mut own: Vec<Waiter> = (0..3).map(|_| turns.take(None)).collect();
        let _own = [had(&mut own[0]), had(&mut own[1])];
        assert!(waits(&mut own[2]), "all are taken");
        assert_eq!(turns.waiting(), 2);
        drop(first);
        let _rest = [had(&mut red[2]), had(&mut own[2])];
        assert_eq!(turns.waiting(), 0);
    }

    #[test]
    fn parties_take_turns_however_many_of_one_wait() {
        let turns = Turns::new(2);
        let (mut one, mut two) = (turns.take(RED), turns.take(BLUE));
        let (one, two) = (had(&mut one), had(&mut two));
        let mut red: Vec<Waiter> = (0..3).map(|_| turns.take(RED)).collect();
        let mut green = turns.take(GREEN);
        // Blue's goes to red, who came first, only if red has its share left; it has not.
        drop(two);
        let green = had(&mut green);
        assert!(red.iter_mut().all(waits));
        drop(one);
        let next = had(&mut red[0]);
        assert!(waits(&mut red[1]));
        drop(green);
        assert!(waits(&mut red[1]), "a turn is free, and none of it red's");
        drop(next);
        let _last = had(&mut red[1]);
    }

    #[test]
    fn who_gives_up_is_passed_over_and_a_turn_on_its_way_to_him_comes_back() {
        let turns = Turns::new(1);
        let first = had(&mut turns.take(RED));
        drop(turns.take(BLUE));
        let (given, mut patient) = (turns.take(GREEN), turns.take(RED));
        assert_eq!(turns.waiting(), 2);
        drop(first);
        // Green has it, and gives up before it looks.
        assert!(waits(&mut patient));
        drop(given);
        drop(had(&mut patient));
        assert!(turns.take(BLUE).try_recv().is_ok(), "the turn is free again");
    }

    #[tokio::test]
    async fn a_request_is_of_whom_it_says_and_nothing_else_is() {
        request_is_of(Uuid::from_u128(9));
        assert_eq!(party(), None, "no request");
        let of = request(async {
            assert_eq!(party(), Some(STRANGERS));
            request_is_of(Uuid::from_u128(1));
            tokio::task::yield_now().await;
            party()
        });
        assert_eq!(of.await, RED);
        assert_eq!(request(async { party() }).await, Some(STRANGERS), "another one");
    }
}
