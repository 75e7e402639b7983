//! What the hardware would do with a table: EPT (SDM Vol. 3C ch. 31) and NPT.

mod phys;

pub use phys::PhysRead;
