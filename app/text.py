"""Every sentence of some length that the app shows."""

TITLE = "Posterior-geometry lab"
LEAD = (
    "A VAE guesses, in one pass of its encoder, where in the latent plane an image came from. With two latent "
    "dimensions the true answer p(z|x) can be computed, so the guess can be judged, in nats."
)
DOCK = {"label": "Plane or controls", "picture": "Plane", "controls": "Image and controls", "close": "Close"}
STARTING = "The server has just started and is loading its numerical libraries; the next page will be quick."
FROM_LAST_TIME = "From the last time, while the model is loading …"
PROJECTOR_HELP = "Large type and thick lines, for the back row."
DENSITY = (
    "log p(x) is the log of a density over {pixels} pixels, not of a probability. This model's pixel noise s_x is "
    "{std:.3f}. So log p(x) is below {most:,.0f} nats, which a perfect copy of every pixel would have."
)
NUMBERS = (
    "KL(q ‖ p) = log p(x) - ELBO(q): what the encoder pays. Approximation gap: what the best diagonal Gaussian still "
    "pays. Amortization gap: what the encoder pays beyond that one. U(x) is the variance that the Gaussian process "
    "leaves in the encoder's mean and scale, summed over the latent dimensions: the paper's score of how hard an "
    "image is."
)
UPLOAD_HELP = (
    "A photo or drawing of one digit. It stays in the memory of your session, is never written to disk or logged, and "
    "is gone when you leave. The 28x28 picture that the model sees is also in your address bar, so that a link "
    "shows it."
)
TEST_IMAGE = "**Test image {index}** of {data}"
TEST_DIGIT = "**Test image {index}** of {data}, digit {label}"
TEST_CLASS = "**Test image {index}** of {data}, class {label}"
OTHER_DATA = (
    "The link shows test image {index} of '{asked}', but this page shows '{here}': its image of the same number is "
    "another picture."
)
NO_IMAGE = "There is no test image {index}: {data} ends at {last}."
NO_CLASS = "There is no digit class '{digit}' in {data}; all are shown."
OTHER_CLASS = "Test image {index} is no {digit}; all classes are shown."
CHOSEN = "**Simulated image**: true z = ({first:.4f}, {second:.4f}), chosen by you; pixels by {name}'s decoder"
DRAWN = (
    "**Simulated image**: true z = ({first:.4f}, {second:.4f}), drawn from the prior with seed {seed}; pixels by "
    "{name}'s decoder"
)
UPLOAD_BEFORE = "What is shown is the image before this file."
UPLOAD_LINKED = "This image came with the link; the picture it was made of did not."
WAITING = (
    "This is the latent plane: each point z decodes to the picture that stands there. The posterior of your image is "
    "drawn over it."
)
WAITING_ALT = "The latent plane, decoded on a lattice of points"
CROP = "The frame is the part that the model's image was made of. The two sliders move its edges."
DRAW = (
    "Draw a digit on the sheet: with the mouse, a finger, a pen, or with the arrow keys and space. Its posterior "
    "appears when you lift the pen. The drawing is in the address bar: copy the link to share it."
)
SIMULATE = (
    "z is drawn from the prior, and the decoder makes an image of it, pixel noise included. So the truth is known, and "
    "no data set is needed. Tap a plane to choose another z."
)
UNIFORM = "Over many images drawn from the model that share is uniform: as often below 10 % as above 90 %."
DIAL = "Clean on the left; what the model saw on the right. Everything below is of the changed image."
EMPTY = (
    "The dial has made an empty image: less than 5 % of the ink is left. The encoder never saw one in training, so its "
    "guess and its KL can be off by any amount."
)
BINARY = "each pixel made 0 or 1 by one draw (seed 0), its grey value the probability of 1"
APART = (
    "The two masses lie too far apart for one zoomed window: each has its own to start with. Zooming and dragging one "
    "moves the other."
)
TWO_PLANES = "These are two latent planes: one z means another picture in each. So each has its own window."
FAR = "{q} lies far from the posterior; *Whole plane* shows its centre."
ON_EDGE = "The true z lies on the edge of the region that holds **{share:.1%}** of the posterior's mass."
NO_IMAGE_BESIDE = "There is no test image {image} to compare with: {data} ends at {last}."
UNREADABLE = "The browser sent something that this page cannot read. It is left out, and nothing has changed."
UNFORESEEN = (
    "This page failed in a way that nobody foresaw. *Start again* brings back the first page; the server's log has "
    "more."
)
OFFLINE_TITLE = "Why the digits, not MNIST?"
OFFLINE = "The page shows the handwritten digits that come with scikit-learn, which need no download:"
FIGURES_TITLE = "Figures 1 and 2"
FIGURES_LEAD = (
    "The paper's two figures on exact posteriors. Which images they show follows from a stated rule: quantiles of a "
    "score, quantiles of the gain. Nothing is chosen by hand."
)
TOO_MANY = "The link asks for {asked} images; a figure shows 1 to {most}."
ENCODERS = "Each that you tick puts its q on the planes and its gap into the meter, six at most."
NO_CHECKPOINT = "There is no checkpoint '{name}' here; choose one of {names}."
OTHER_WEIGHTS = (
    "The link was made with other weights of {name} ({asked}) than those here ({here}): its numbers will differ."
)
NO_ENCODER = "There is no encoder '{name}' on {checkpoint}; it is left out."
NO_ORDER = "Images cannot be sorted by '{name}' here; choose one from the list '{list}'."
PREVIEW = (
    "**Preview.** The exact posterior of this image takes long and is still being computed. Until it is there, this "
    "one is read off the decoded plane, between its nodes. Its numbers are rough."
)
SHOWN = (
    "Data: test images of **{data}**. Checkpoint: **{name}** ({method}), trained on {trained_on} (weights {weights})."
)
MEASURED = (
    "Behind a name stands its mean KL(q ‖ p(z|x)) over {count:,} test images. This model's own has {own:.3g} nats."
)
UNMEASURED = "Their mean KLs over the test images of this model are not stored."
READ_PANEL = (
    "Grey is the density of p(z|x). Point at it for z and for the nats below its peak. A box drawn with the mouse is "
    "enlarged; a double click brings the whole panel back. The download has the printed figure."
)
DIFFICULTY_TITLE = "Is uncertainty difficulty?"
DIFFICULTY_LEAD = (
    "Each dot is a test image. A score says how hard the image should be, before anything exact is known. The exact "
    "figure says how hard it was."
)
RANKS = (
    "**{across}** ranks these {count:,} images by **{up}** with a rank correlation of **{rho:+.2f}** "
    "[{low:+.2f}, {high:+.2f}]. 1 is the same order, 0 is none."
)
WITHIN = "Among images whose q is equally wide it is **{within:+.2f}**."
NO_FIGURE = "There is no figure '{name}' here; choose one from the list '{list}'."
CLAIM = "The paper offers U(x) as the measure of how hard an image is."
NO_EXACT = (
    "The exact figures of {name} are not stored, so scores can only be held against one another here. "
    "`python -m gpvae_core gaps` computes them."
)
MAP_TITLE = "Latent map"
MAP_LEAD = "Each dot is a test image where the encoder puts it, over what the plane decodes to there."
PICK = (
    "Click a dot to see its image. For several, choose the lasso above the chart and draw a loop around them. A click "
    "on an image opens its posterior."
)
PICKED = "{count:,} chosen. Click one to see its posterior."
MANY_PICKED = "{count:,} chosen. Below are the {most} with the highest {label}. Click one to see its posterior."
TURN = "log p(z|x) in 3-D"
TURNED = "Height is log p(z|x) in nats below its peak, cut off at 12. The white lines are a nat apart. Drag to turn it."
COVER = "Do the regions keep their promise?"
COVER_BUTTON = "Make 100 images and count"
COVER_LEAD = (
    "The decoder makes 100 images from known z. The mass of the region on whose edge the true z lies is then equally "
    "often small and large, if the regions are honest."
)
SHARE = "This link opens this image with these settings. Point a phone's camera at the square to open it there."
LOCAL = "This address works on this computer alone. With `make serve` the page has one that other machines can open."
QR_TITLE = "QR code of the link"
TOO_LONG = "The link is too long for a QR code: it carries a picture. Send it as text."
PLAYLIST = (
    "A playlist is a link with several scenes. Set the page as a scene wants it, write what you want to say, and add "
    "it. The link leads from scene to scene. Notes are hidden where the controls are."
)
NO_SCENE = "There is no scene {number}: the playlist ends at {last}."
BARE = "Without controls"
BARE_HELP = "Hides the controls, for a projector or a class: the link then shows the picture alone."
GUESS = (
    "The answer is hidden. Where would z lie for this image? Move the green Gaussian there, set its two widths, then "
    "reveal."
)
MOVE_FIRST = "Move the green Gaussian first: as it stands, it is the prior."
SCORE = "**{won} of {count}** closer than the encoder. Median KL: yours {mine}, the encoder's {encoder}."
FOUR = "Which of four images has the largest gap?"
FOUR_LEAD = "One from each quarter of the test images, by the encoder's KL. Choose before you are told."
FOUR_RIGHT = "**Right.** The encoder misses that posterior by {most} nats, and the other three by less."
FOUR_WRONG = "**Not that one.** There the encoder misses by {own} nats, at most by {most}."
FOUR_OPEN = "A second tap on an image opens it."
GUESS_HELP = "Hides the posterior and the encoder until you have placed a Gaussian of your own."
EXPORT = (
    "PNG, SVG and PDF for print; a page that works by itself, planes and cursor included; the numbers, the arrays, the "
    "configuration, and a Python script that computes the numbers again and checks them."
)
TRAIN_TITLE = "Train a model"
TRAIN_LEAD = (
    "A small model learns while you watch: its objective, and what its encoder misses of the exact posterior, which "
    "no other tool can show."
)
TRAIN_FIRST = (
    "Choose images and a method, then press Train. Guess first: does the gap between the encoder and the exact "
    "posterior shrink while the ELBO rises? The digits take about a minute."
)
TRAIN_KEPT = (
    "The model and your images stay on the server until you start another training, reload the page or close it. "
    "Nobody else sees them. Two trainings run at a time, others wait in a line."
)
TRAIN_GAP = (
    "After epoch {epoch} the encoder misses the exact posterior by **{gap:.3g} nats** on average over {count} test "
    "images (numerical error at most {error:.1g})."
)
TRAIN_OUTCOME = (
    "Your guess, answered: before the first epoch the gap was {first:.3g} nats. It was largest after epoch {epoch}, "
    "with {most:.3g} nats, and ended at {last:.3g}."
)
TRAIN_ROSE = (
    "An untrained decoder hardly uses z, so that the posterior is nearly the prior, and easy to guess. What training "
    "adds to the ELBO is no measure of the gap."
)
TRAIN_DIED = "The training ended without a word, perhaps for lack of memory. Go on from its last epoch, or train anew."
ZIP_HELP = (
    "At least 50 images of one figure each, at most 5,000. Folders in the archive become classes. Each image is "
    "brought to 28x28, as an upload is."
)
NOISE_HELP = (
    "The standard deviation of a pixel around the decoder's mean. The larger it is, the broader are the posteriors. "
    "Learned, it becomes small, and posteriors narrow."
)
CURVES = (
    "Epoch 0 is before the training. The decoder hardly depends on z then: q and the exact posterior both resemble the "
    "prior, and the gap is small. Then the exact posteriors narrow faster than the encoder follows."
)
EVOLUTION = (
    "The first test image: the regions that hold 50 and 95 % of the exact posterior, and of the encoder's q, while the "
    "model learns. The decoder changes too, so the truth moves."
)
HOME = "explore"
PAGES = {  # by their paths
    HOME: "Explore",
    "lesson": "Lesson",
    "figures": FIGURES_TITLE,
    "difficulty": DIFFICULTY_TITLE,
    "map": MAP_TITLE,
    "train": TRAIN_TITLE,
}
