//! When all has ended: whether the lease can be taken.

use super::events::Act;
use super::hosts::{Input, Op};
use super::report::{Stuck, Violation};
use super::state::State;
use super::telling::letter;
use super::work::{Root, Work};
use super::world::World;

/// Acquires that a host makes alone before it counts as stuck.
const ATTEMPTS: usize = 4;
/// What nobody disturbs and still takes more steps than these never ends.
const STEPS_MAX: usize = 1000;

/// What a host that runs alone came to.
#[derive(PartialEq, Eq)]
enum Alone {
    Holds,
    Refused,
    Rests,
    /// It waits for an owner, for ever.
    Waits,
}

impl World {
    /// How stuck the hosts are, when all has ended but for hosts that are parked: these go on first,
    /// one after the other, in any order.
    pub fn who_is_stuck(&mut self, state: &State) -> Result<Stuck, Violation> {
        let hosts = 0..self.layout.hosts;
        let parked: Vec<_> = hosts
            .filter(|&host| self.is_parked(state.hosts[host]))
            .collect();
        if parked.is_empty() {
            return self.who_is_stuck_at_rest(state);
        }
        let mut worst = Stuck::Nobody;
        for host in parked {
            let mut state = *state;
            self.run_to_rest(&mut state, host)?;
            worst = worst.max(self.who_is_stuck(&state)?);
        }
        Ok(worst)
    }

    fn who_is_stuck_at_rest(&mut self, state: &State) -> Result<Stuck, Violation> {
        let state = if state.dead == 0 {
            *state
        } else {
            self.with_time_passed(*state)
        };
        let living: Vec<_> = (0..self.layout.hosts)
            .filter(|&host| !state.is_dead(host))
            .filter(|&host| self.hosts.node(state.hosts[host]).op != Op::Dead)
            .collect();
        let mut stuck = 0;
        for &host in &living {
            let mut state = state;
            let mut acquired = false;
            for _ in 0..ATTEMPTS {
                acquired = acquired || self.acquires(&mut state, host)?;
            }
            stuck += usize::from(!acquired);
        }
        if stuck == 0 {
            return Ok(Stuck::Nobody);
        }
        if stuck < living.len() {
            return Ok(Stuck::Some);
        }
        let mut in_turn = state;
        for _ in 0..ATTEMPTS {
            for &host in &living {
                if self.acquires(&mut in_turn, host)? {
                    return Ok(Stuck::All);
                }
            }
        }
        Ok(Stuck::ForGood)
    }

    /// One acquire of a host that is at rest or asleep, while nobody else does anything.
    fn acquires(&mut self, state: &mut State, host: usize) -> Result<bool, Violation> {
        if self.hosts.node(state.hosts[host]).op == Op::Rest {
            let rest = self.hosts.root_of(state.hosts[host]).clone();
            state.hosts[host] = self.hosts.begin(&Root {
                left: 1,
                work: Work::Acquire,
                ..rest
            });
        }
        let came_to = self.run_alone(state, host)?;
        if came_to == Alone::Refused {
            self.run_to_rest(state, host)?;
        }
        Ok(came_to == Alone::Holds)
    }

    fn run_to_rest(&mut self, state: &mut State, host: usize) -> Result<(), Violation> {
        while !matches!(self.run_alone(state, host)?, Alone::Rests | Alone::Waits) {}
        Ok(())
    }

    /// Up to the next thing that is of interest.
    fn run_alone(&mut self, state: &mut State, host: usize) -> Result<Alone, Violation> {
        let mut slept = false;
        for _ in 0..STEPS_MAX {
            let before = *state;
            let input = match self.hosts.node(state.hosts[host]).op {
                Op::Read { first, end } => {
                    Input::Read(self.hosts.rows.id_of(&state.sectors[first..end]))
                }
                Op::Write { slot, content } => {
                    state.sectors[slot] = content;
                    Input::Written
                }
                // Nothing changes any more: one look is enough.
                Op::Sleep if slept => return Ok(Alone::Waits),
                Op::Sleep => {
                    slept = true;
                    Input::Woken
                }
                Op::Begin => Input::Begin,
                Op::Rest => return Ok(Alone::Rests),
                Op::Dead => unreachable!("only the living try"),
            };
            let edge = self.hosts.edge(state.hosts[host], input, 0);
            state.hosts[host] = edge.to;
            let line = self
                .told
                .is_some()
                .then(|| self.line(&before, Act::Go.of(host), edge.text));
            if let Some(told) = &mut self.told {
                told.extend(line);
            }
            if let Some(violation) = self.judge(state, host, edge) {
                return Err(violation);
            }
            if edge.holds != 0 {
                return Ok(Alone::Holds);
            }
            if edge.refused {
                return Ok(Alone::Refused);
            }
        }
        let host = letter(host);
        let text = format!("host {host} never comes to an end, though nobody disturbs it");
        Err(Violation::Trouble(text))
    }
}
