// Drawing a box around a person in a larger image, with the mouse, a finger, or numbers.

const $ = (id) => document.getElementById(id);
const EDGES = ["left", "top", "right", "bottom"];
const field = (name) => $("marker").querySelector(`input[name="${name}"]`);

let done = null;
let from = null; // where drawing began, in pixels of the image

// The place of a pointer in pixels of the image, which may be shown smaller.
function pixel(event) {
  const image = $("marker-image");
  const frame = image.getBoundingClientRect();
  const inside = (value, size) => Math.round(Math.min(Math.max(value, 0), 1) * size);
  return [
    inside((event.clientX - frame.left) / frame.width, image.naturalWidth),
    inside((event.clientY - frame.top) / frame.height, image.naturalHeight),
  ];
}

const box = () => EDGES.map((name) => Number(field(name).value));

function drawn() {
  const image = $("marker-image");
  const [left, top, right, bottom] = box();
  const good = right > left && bottom > top && left < image.naturalWidth && top < image.naturalHeight;
  const shape = $("marker-box");
  shape.hidden = !good;
  $("marker-search").disabled = !good;
  if (!good) return;
  shape.style.left = `${(100 * left) / image.naturalWidth}%`;
  shape.style.top = `${(100 * top) / image.naturalHeight}%`;
  shape.style.width = `${(100 * (right - left)) / image.naturalWidth}%`;
  shape.style.height = `${(100 * (bottom - top)) / image.naturalHeight}%`;
}

function set(values) {
  EDGES.forEach((name, at) => (field(name).value = values ? Math.round(values[at]) : ""));
  drawn();
}

function listen() {
  const area = $("marker-area");
  area.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    area.setPointerCapture(event.pointerId);
    from = pixel(event);
  });
  area.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = pixel(event);
    set([Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])]);
  });
  area.addEventListener("pointerup", () => (from = null));
  area.addEventListener("pointercancel", () => (from = null));
  for (const name of EDGES) field(name).addEventListener("input", drawn);
  $("marker-close").addEventListener("click", () => $("marker").close());
  const finish = (value) => {
    $("marker").close();
    done(value);
  };
  $("marker-whole").addEventListener("click", () => finish(null));
  $("marker-search").addEventListener("click", () => finish(box()));
}

let listening = false;

// source: the address of the whole image. before: the box that is there, or nothing. then: is given the new one, or null.
export function mark(source, before, then) {
  if (!listening) listen();
  listening = true;
  done = then;
  from = null; // of a drawing that closing cut short
  $("marker-image").onload = drawn;
  $("marker-image").src = source;
  set(before);
  $("marker").showModal();
}
