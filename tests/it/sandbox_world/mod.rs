//! The make-believe node and controllers, tried as users see them.
//!
//! Each scenario is written once, against a [`stage::Stage`], and runs wherever there is an API server.

macro_rules! scenarios {
    ($stage:ident: $($module:ident :: $name:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            let Some(stage) = crate::sandbox_world::stage::Stage::$stage(stringify!($name)).await else { return };
            crate::sandbox_world::$module::$name(&stage).await;
            stage.stop_node().await;
        }
    )*};
}

mod kubelet;
mod memory;
mod real;
pub mod stage;
mod world;
