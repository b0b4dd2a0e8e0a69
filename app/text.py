"""Every sentence of some length that the app shows."""

TITLE = "Posterior-geometry lab"
LEAD = (
    "A VAE guesses, in one pass of its encoder, where in the latent plane an image came from. With two latent "
    "dimensions the true answer p(z|x) can be computed, so the guess can be judged, in nats."
)
DENSITY = (
    "log p(x) is the log of a density over 784 pixels, not of a probability. The pixel noise s_x of this model is "
    "{std:.3f}, so densities well above 1 are normal, and log p(x) is positive wherever the decoder fits well."
)
UNCERTAINTY = (
    "U(x) is the variance that the Gaussian process leaves in the encoder's mean and scale, summed over the latent "
    "dimensions: the paper's score of how hard an image is."
)
NO_UNCERTAINTY = "This checkpoint is a plain VAE, without a Gaussian process: it has no U, and the order is by number."
UPLOAD_HELP = (
    "A photo or drawing of one digit. It stays in the memory of your session, is never written to disk or logged, "
    "and is gone when you leave."
)
PREPROCESSING = (
    "As MNIST was made: inverted if the ground is light, cropped to the ink, scaled into 20x20 pixels, centred by mass."
)
BOX_CAPTION = (
    "The whole prior box. Colour: nats of log p(z|x) below its maximum, on a log scale, from the decoded base grid. "
    "The square marks the window of the other plane."
)
ZOOM_CAPTION = (
    "The mass, from exact quadrature. Lines enclose 50, 80 and 95 % of the probability of each density: "
    "grey filled p(z|x), red dashed base encoder, blue solid marginalised encoder."
)
OFFLINE_TITLE = "Why the digits, not MNIST?"
OFFLINE = "The page shows the handwritten digits that come with scikit-learn, which need no download:"
