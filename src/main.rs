//! a9s
fn main() {}
