//! The integration stories: one binary, a file a story.

mod interop;
mod sim;
mod stories;
