//! Stories told over real TCP: what a client sends, and every byte it gets.

mod access;
mod adding;
mod cache;
mod control;
mod edge;
mod forms;
mod guards;
mod ipfs;
mod items;
mod links;
mod operating;
mod ranges;
mod rates;
mod rows;
mod streams;
mod ui;
