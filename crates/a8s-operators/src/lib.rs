//! The builtin a8s stack.
