//! Tests of the core as a whole: its machines against models, its use cases in a simulated world.

#[cfg(test)]
mod model;
#[cfg(test)]
mod packed;
#[cfg(test)]
mod reply;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stored;
#[cfg(test)]
mod sweep;
