//! Who hashes next.
//!
//! A hash takes a core for tens of milliseconds on purpose, so few run at once and the others
//! wait. In one queue whoever sends most would have almost all of the turns. Here addresses take
//! turns, and within an address the accounts that it logs in to: a flood from one address, or of
//! guesses for one account, holds up nobody but itself. How many may wait is bounded for each, and
//! who is one too many is told so at once.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Whose turn it is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// Where the request comes from; `None`: from this process itself.
    pub address: Option<IpAddr>,
    /// The account; `None`: all that are not there.
    pub account: Option<Uuid>,
}

/// So many of one account and address may wait: services start with dozens of workers.
const OF_ACCOUNT: usize = 64;

/// So many of one address.
const OF_ADDRESS: usize = 512;

/// So many in all: each holds a request's memory.
const OF_ALL: usize = 4096;

type Waiter = oneshot::Sender<Turn>;

/// Those of one account at one address, first come first served.
struct Account {
    account: Option<Uuid>,
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

    fn has_room(&self, party: Party) -> bool {
        let address = self.addresses.iter().find(|address| address.address == party.address);
        let accounts = address.into_iter().flat_map(|address| &address.accounts);
        let account = accounts.into_iter().find(|account| account.account == party.account);
        self.waiting() < OF_ALL
            && address.is_none_or(|address| address.waiting() < OF_ADDRESS)
            && account.is_none_or(|account| account.waiters.len() < OF_ACCOUNT)
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
    /// this returns.
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
        if !queue.has_room(party) {
            queue.tidy();
        }
        if !queue.has_room(party) {
            return Err(Crowded);
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
        Party { address: Some([192, 0, 2, address].into()), account: Some(Uuid::from_u128(account)) }
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
        let turns = Turns::new(1);
        let first = turns.take(Party::default()).expect("nobody waits").try_recv().expect("it is free");
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
        let turns = Turns::new(1);
        let first = turns.take(Party::default()).expect("nobody waits").try_recv().expect("it is free");
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

    #[test]
    fn one_account_one_address_and_all_together_are_bounded() {
        let turns = Turns::new(1);
        let _first = turns.take(Party::default()).expect("nobody waits").try_recv().expect("it is free");
        let mut waiting = Vec::new();
        for _ in 0..OF_ACCOUNT {
            waiting.push(turns.take(party(1, 1)).expect("there is room"));
        }
        assert!(turns.take(party(1, 1)).is_err());
        for account in 2.. {
            match turns.take(party(1, account)) {
                Ok(turn) => waiting.push(turn),
                Err(Crowded) => break,
            }
        }
        assert_eq!(waiting.len(), OF_ADDRESS);
        for n in 0u128.. {
            match turns.take(party(2 + (n % 200) as u8, n)) {
                Ok(turn) => waiting.push(turn),
                Err(Crowded) => break,
            }
        }
        assert_eq!(waiting.len(), OF_ALL);
        assert_eq!(turns.waiting(), OF_ALL);
    }
}
