//! Stories told over real TCP: what a client sends, and every byte it gets.

mod control;
mod forms;
mod guards;
mod ipfs;
mod ranges;
mod rows;
mod streams;
mod ui;
