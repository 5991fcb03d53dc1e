//! The rules that an accountant could follow: what may be written into the books. No table, no clock, no socket.
//!
//! [`standing`] says what a message does to a hold in each of its states, [`admission`] whether a hold may be made,
//! [`charge`] what a request costs. A store reads the rows, asks here, and writes what was decided.

pub mod admission;
pub mod charge;
pub mod standing;
