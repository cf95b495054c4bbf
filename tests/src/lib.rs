//! The harness of whole-system tests: a world with the store of choice, and what plays in it.

pub mod capture;
pub mod fleet;
pub mod host;
pub mod orchestrator;
pub mod process;
pub mod server;
pub mod worker;
pub mod world;

pub use server::Server;
pub use worker::PlayedWorker;
pub use world::{Backend, World};

/// Runs a story on every store: one named test each.
#[macro_export]
macro_rules! on_every_store {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident: World) $body:block)+) => {
        $crate::on_every_store!(@module memory, $crate::Backend::Memory; $($(#[$meta])* $name $world $body)+);
        $crate::on_every_store!(@module sqlite, $crate::Backend::Sqlite; $($(#[$meta])* $name $world $body)+);
        $crate::on_every_store!(@module postgres, $crate::Backend::Postgres; $($(#[$meta])* $name $world $body)+);
    };
    (@module $module:ident, $backend:expr; $($(#[$meta:meta])* $name:ident $world:ident $body:block)+) => {
        mod $module {
            use super::*;
            $(
                $(#[$meta])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let $world = $crate::World::on($backend).await;
                    $body
                }
            )+
        }
    };
}
