//! The operations that models add to those of `numerics`, each held to its composition.

use super::anomaly_transformer::association::op::AssociationOp;
use super::omni_anomaly::connected::Connected;
use super::omni_anomaly::flow::Planar;
use super::tvnet::dynamic::DynamicOp;
use super::tvnet::tied::TiedOp;
use super::vae::elbo::ElboOp;

numerics::conformance! {
    anomaly_attention: AssociationOp, 2;
    connected: Connected, 3;
    dynamic_convolution: DynamicOp, 3;
    lower_bound: ElboOp, 3;
    planar_flow: Planar, 2;
    tied_convolution: TiedOp, 3;
}
