//! The a8s custom resources.
