//! The library face of ServeFlow.
