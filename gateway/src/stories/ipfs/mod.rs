//! IPFS over HTTP, told over real TCP: DAGs are built, their blocks put into the store, and read back by clients.

mod again;
mod cars;
mod files;
mod formats;
mod hosts;
mod names;
mod networks;
mod pin_requests;
mod pins;
mod websites;
mod world;
