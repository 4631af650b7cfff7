//! Real processes that close a system call filter on all their threads once they hold their locks: the lists in
//! `docs/embedding.md` are enough, and none of what they are made of can be spared. N is 1 s and F is 4 s, as in
//! `fencing`.

mod enough;
mod filter;
mod holder;
mod lists;
mod needed;
