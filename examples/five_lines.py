"""A trained model, an image, its exact posterior, the encoder's q, and what q misses, in nats."""

import gpvae_core as gp

checkpoint = gp.load("digits-2d")
x = checkpoint.simulate(1, seed=0).images
posterior = gp.posterior(checkpoint, x)
gap = posterior.kl_from(checkpoint.infer(x).q[0])
print(f"KL(q || p(z|x)) = {gap.value:.3f} nats, error about {gap.error:.0e}")
