//! The HTTP gateway and its command line.
