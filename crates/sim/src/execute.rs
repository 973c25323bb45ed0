//! The execute ring: the controller, what feeds the mesh, and the mesh.

pub mod command_kind;
pub mod execute_controller;
pub mod mesh;
pub mod mesh_pe;
pub mod mesh_with_delays;
pub mod operand_set;
pub mod tag_queue;
pub mod transpose_preload_unroller;
pub mod transposer;
