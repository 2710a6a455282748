//! Who hashes next.
//!
//! A hash takes a core for tens of milliseconds on purpose, so few run at once and the others
//! wait. In one queue whoever sends most would have almost all of the turns. Here addresses take
//! turns, and within an address the accounts that it logs in to: a flood from one address, or of
//! guesses for one account, holds up nobody but itself. How many may wait is bounded for each. Where
//! the room for all is taken, or that of an address, whoever has most of it gives a place up, and is told so.
//!
//! An account is what the request calls it, whether or not there is such a one. If accounts that are
//! not there had a queue in common, filling it would tell who exists.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Whose turn it is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// Where the request comes from; `None`: from this process itself.
    address: Option<IpAddr>,
    /// A digest of what the request calls the account, under a key of this process: nobody outside finds two
    /// names with one.
    account: u64,
}

impl Party {
    /// Who comes from an address and names an account. `sent` is what was sent, and nothing that was
    /// looked up by it.
    pub fn naming(address: Option<IpAddr>, sent: &impl Hash) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self { address, account: KEY.hash_one(sent) }
    }
}

/// So many of one account and address may wait: services start with dozens of workers.
pub const OF_ACCOUNT: usize = 64;

/// So many of one address.
const OF_ADDRESS: usize = 512;

/// So many in all: each holds a request's memory.
const OF_ALL: usize = 4096;

type Waiter = oneshot::Sender<Turn>;

/// Those of one account at one address, first come first served.
struct Account {
    account: u64,
    waiters: VecDeque<Waiter>,
}

/// Those of one address; the front account is next.
struct Address {
    address: Option<IpAddr>,
    accounts: VecDeque<Account>,
}

impl Address {
    fn waiting(&self) -> usize {
        self.accounts.iter().map(|account| account.waiters.len()).sum()
    }

    fn greediest(&mut self) -> Option<&mut Account> {
        self.accounts.iter_mut().max_by_key(|account| account.waiters.len())
    }
}

/// The front address is next. Neither an address nor an account without waiters is kept.
#[derive(Default)]
struct Queue {
    free: usize,
    addresses: VecDeque<Address>,
}

impl Queue {
    fn waiting(&self) -> usize {
        self.addresses.iter().map(Address::waiting).sum()
    }

    /// Forgets those who gave up.
    fn tidy(&mut self) {
        for address in &mut self.addresses {
            for account in &mut address.accounts {
                account.waiters.retain(|waiter| !waiter.is_closed());
            }
            address.accounts.retain(|account| !account.waiters.is_empty());
        }
        self.addresses.retain(|address| !address.accounts.is_empty());
    }

    /// Whether one more of a party might be too many; some who wait may have given up.
    fn is_crowded(&self, party: Party) -> bool {
        let address = self.addresses.iter().find(|address| address.address == party.address);
        self.waiting() >= OF_ALL || address.is_some_and(|address| address.waiting() >= OF_ACCOUNT)
    }

    /// Makes room for one more of a party, if need be at the expense of who has more than it would have then.
    fn make_room(&mut self, party: Party) -> Result<(), Crowded> {
        let all = self.waiting();
        let mut address = self.addresses.iter_mut().find(|address| address.address == party.address);
        let of_address = address.as_ref().map_or(0, |address| address.waiting());
        let account = address.as_ref().and_then(|it| it.accounts.iter().find(|known| known.account == party.account));
        let of_account = account.map_or(0, |account| account.waiters.len());
        if of_account >= OF_ACCOUNT {
            return Err(Crowded);
        }
        let greedy = if of_address >= OF_ADDRESS {
            let account = address.as_mut().and_then(|address| address.greediest());
            account.filter(|account| account.waiters.len() > of_account + 1)
        } else if all >= OF_ALL {
            let address = self.addresses.iter_mut().max_by_key(|address| address.waiting());
            address.filter(|address| address.waiting() > of_address + 1).and_then(Address::greediest)
        } else {
            return Ok(());
        };
        // Its last to come. Without its sender a waiter knows.
        drop(greedy.ok_or(Crowded)?.waiters.pop_back());
        self.tidy();
        Ok(())
    }

    fn push(&mut self, party: Party, waiter: Waiter) {
        let Party { address, account } = party;
        let at = self.addresses.iter().position(|known| known.address == address).unwrap_or_else(|| {
            self.addresses.push_back(Address { address, accounts: VecDeque::new() });
            self.addresses.len() - 1
        });
        let accounts = &mut self.addresses[at].accounts;
        let at = accounts.iter().position(|known| known.account == account).unwrap_or_else(|| {
            accounts.push_back(Account { account, waiters: VecDeque::new() });
            accounts.len() - 1
        });
        accounts[at].waiters.push_back(waiter);
    }

    /// Who is next; its account and its address go to the end of their rows.
    fn pop(&mut self) -> Option<Waiter> {
        let mut address = self.addresses.pop_front()?;
        let mut account = address.accounts.pop_front()?;
        let waiter = account.waiters.pop_front();
        if !account.waiters.is_empty() {
            address.accounts.push_back(account);
        }
        if !address.accounts.is_empty() {
            self.addresses.push_back(address);
        }
        waiter
    }
}

/// Turns, so many at once.
pub struct Turns(Mutex<Queue>);

/// Lasts as long as this value; then it is the next one's.
pub struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

/// Too many wait already, of this party or in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

impl Turns {
    /// `count` at once.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Queue { free: count, addresses: VecDeque::new() })))
    }

    /// Nothing between lock and unlock panics halfway.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        let mut queue = self.queue();
        queue.tidy();
        queue.waiting()
    }

    /// A turn as soon as it is the party's; who stops waiting is passed over. Stands in the queue when
    /// this returns; a place that it has to give up to others is an error of the receiver.
    pub fn take(self: &Arc<Self>, party: Party) -> Result<oneshot::Receiver<Turn>, Crowded> {
        let (waiter, turn) = oneshot::channel();
        let mut queue = self.queue();
        if queue.free > 0 {
            queue.free -= 1;
            drop(queue);
            // The receiver is here: it cannot fail.
            let _ = waiter.send(Turn(Arc::clone(self)));
            return Ok(turn);
        }
        if queue.is_crowded(party) {
            queue.tidy();
            queue.make_room(party)?;
        }
        queue.push(party, waiter);
        Ok(turn)
    }

    /// A turn has ended.
    fn pass_on(self: &Arc<Self>) {
        let next = {
            let mut queue = self.queue();
            loop {
                match queue.pop() {
                    Some(waiter) if waiter.is_closed() => {}
                    Some(waiter) => break waiter,
                    None => {
                        queue.free += 1;
                        return;
                    }
                }
            }
        };
        // If it gives up at this moment the turn comes back here.
        drop(next.send(Turn(Arc::clone(self))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(address: u8, account: u128) -> Party {
        Party::naming(Some([192, 0, 2, address].into()), &account)
    }

    /// The only turn, taken.
    fn busy() -> (Arc<Turns>, Turn) {
        let turns = Turns::new(1);
        let first = turns.take(Party::default()).expect("nobody waits").try_recv().expect("it is free");
        (turns, first)
    }

    fn is_told_off(waiter: &mut oneshot::Receiver<Turn>) -> bool {
        waiter.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
    }

    /// Lets each turn end as soon as it is had; who had them, in order.
    fn order(first: Turn, mut waiting: Vec<(&'static str, oneshot::Receiver<Turn>)>) -> Vec<&'static str> {
        let (mut turn, mut order) = (Some(first), Vec::new());
        while let Some(done) = turn.take() {
            drop(done);
            for (name, receiver) in &mut waiting {
                if let Ok(next) = receiver.try_recv() {
                    order.push(*name);
                    turn = Some(next);
                }
            }
        }
        order
    }

    #[test]
    fn addresses_take_turns_and_within_them_accounts() {
        let (turns, first) = busy();
        let mut waiting = Vec::new();
        for (name, party) in [
            ("flood a", party(1, 1)),
            ("flood b", party(1, 1)),
            ("flood c", party(1, 1)),
            ("its neighbour", party(1, 2)),
            ("somebody else", party(2, 1)),
        ] {
            waiting.push((name, turns.take(party).expect("there is room")));
        }
        assert_eq!(turns.waiting(), 5);
        assert_eq!(order(first, waiting), ["flood a", "somebody else", "its neighbour", "flood b", "flood c"]);
        assert!(turns.take(Party::default()).is_ok_and(|mut turn| turn.try_recv().is_ok()), "the turn is free again");
    }

    #[test]
    fn who_gives_up_is_passed_over_and_takes_no_room() {
        let (turns, first) = busy();
        for _ in 0..OF_ACCOUNT * 2 {
            drop(turns.take(party(1, 1)).expect("those before have gone"));
        }
        let patient = turns.take(party(1, 1)).expect("there is room");
        assert_eq!(turns.waiting(), 1);
        assert_eq!(order(first, vec![("patient", patient)]), ["patient"]);
        // One that gives up while the turn is on its way hands it on.
        let (given, waits) = (turns.take(party(1, 1)), turns.take(party(2, 2)));
        drop(given);
        assert!(waits.is_ok_and(|mut turn| turn.try_recv().is_ok()));
    }

    /// Fills the room of an address, with so many of each account.
    fn fill(turns: &Arc<Turns>, address: u8, of_account: usize) -> Vec<oneshot::Receiver<Turn>> {
        let account = |n: usize| party(address, (n / of_account) as u128);
        (0..OF_ADDRESS).map(|n| turns.take(account(n)).expect("there is room")).collect()
    }

    #[test]
    fn an_account_that_has_its_share_gets_no_more_of_it() {
        let (turns, _first) = busy();
        let waiting: Vec<_> = (0..OF_ACCOUNT).map(|_| turns.take(party(1, 1)).expect("there is room")).collect();
        assert!(turns.take(party(1, 1)).is_err());
        assert!(turns.take(party(1, 2)).is_ok() && turns.take(party(2, 1)).is_ok());
        drop(waiting);
    }

    #[test]
    fn in_a_full_address_the_greediest_account_gives_up_its_last_place() {
        let (turns, _first) = busy();
        let mut waiting = fill(&turns, 1, OF_ACCOUNT);
        let modest = turns.take(party(1, 1_000)).expect("others have more");
        assert_eq!(turns.waiting(), OF_ADDRESS);
        let told_off: Vec<usize> = (0..OF_ADDRESS).filter(|n| is_told_off(&mut waiting[*n])).collect();
        assert_eq!(told_off.len(), 1);
        assert_eq!(told_off[0] % OF_ACCOUNT, OF_ACCOUNT - 1, "the last that came of its account");
        assert!(turns.take(party(2, 1)).is_ok(), "other addresses have room");
        drop(modest);
        // Where all have as little, nobody gives way.
        let (turns, _first) = busy();
        let mut waiting = fill(&turns, 1, 1);
        assert!(turns.take(party(1, 1_000)).is_err());
        assert!(!waiting.iter_mut().any(is_told_off));
    }

    #[test]
    fn where_all_room_is_taken_the_greediest_address_gives_way_to_the_modest() {
        let (turns, _first) = busy();
        let mut waiting: Vec<_> = (1u8..).take(OF_ALL / OF_ADDRESS).flat_map(|n| fill(&turns, n, 1)).collect();
        assert_eq!(turns.waiting(), OF_ALL);
        let modest: Vec<_> = (0..10).map(|n| turns.take(party(200, n)).expect("others have more")).collect();
        assert_eq!(turns.waiting(), OF_ALL);
        assert_eq!(waiting.iter_mut().filter_map(|waiter| is_told_off(waiter).then_some(())).count(), 10);
        // Of those that have most, none gets in at the expense of another.
        assert!(turns.take(party(1, 5_000)).is_err());
        drop(modest);
    }

    #[test]
    fn a_party_is_what_was_sent_and_where_from() {
        assert_eq!(party(1, 1), party(1, 1));
        assert_ne!(party(1, 1), party(1, 2));
        assert_ne!(party(1, 1), party(2, 1));
    }
}
