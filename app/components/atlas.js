// The decoded plane, sent once for each checkpoint and shared by every plane on the page.

const ATLASES = "gpvaeAtlases";
const SIDE = 28;

export default function mount({ data }) {
  window[ATLASES] ??= {};
  if (window[ATLASES][data.digest]) return;
  read(data).then((tiles) => {
    const low = [-data.half, -data.half];
    const high = [data.half, data.half];
    window[ATLASES][data.digest] = { tiles, nodes: data.nodes, low, high };
    window.dispatchEvent(new CustomEvent("gpvae-atlas"));
  });
}

// One picture of nodes x nodes tiles -> each tile's pixels in a row, first axis slowest.
export async function read({ picture, nodes }) {
  const image = new Image();
  image.src = `data:image/webp;base64,${picture}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = nodes * SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const tiles = new Uint8Array(nodes * nodes * SIDE * SIDE);
  for (let i = 0; i < nodes; i++) {
    for (let j = 0; j < nodes; j++) {
      for (let row = 0; row < SIDE; row++) {
        const from = 4 * ((i * SIDE + row) * canvas.width + j * SIDE);
        const to = ((i * nodes + j) * SIDE + row) * SIDE;
        for (let k = 0; k < SIDE; k++) tiles[to + k] = data[from + 4 * k];
      }
    }
  }
  return tiles;
}
