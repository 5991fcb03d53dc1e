//! Requests: which operation they are, what they ask for, and what must change before they go on.

pub mod body;
pub mod edit;
pub mod head;
mod shapes;
