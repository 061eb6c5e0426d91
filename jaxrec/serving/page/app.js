// Texts from data reach the page by textContent alone: markup in them stays text.
const $ = (id) => document.getElementById(id);
const basket = new Map();
let token = "";

function made(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const NAMES = { user: "User", k: "Length", basket: "Picked items", q: "Search" };

async function ask(path, body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  const options = { headers };
  if (body) {
    headers["Content-Type"] = "application/json";
    options.method = "POST";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options).catch(() => {
    throw new Error("The server does not answer.");
  });
  if (answer.status === 401) {
    $("token-field").hidden = false;
    $("token").focus();
  }
  const content = await answer.json();
  if (!answer.ok) {
    const detail = content.detail;
    const faults = ({ loc, msg }) => `${NAMES[loc.at(-1)] ?? loc.at(-1)}: ${msg}`;
    throw new Error(typeof detail === "string" ? detail : detail.map(faults).join("; "));
  }
  return content;
}

function title(about) {
  const values = Object.entries(about ?? {});
  const named = values.find(([name]) => /^(title|name|.*_title|.*_name|label)$/i.test(name));
  return (named ?? values.find(([, value]) => typeof value === "string") ?? [])[1];
}

function rest(about, shown) {
  return Object.entries(about ?? {})
    .filter(([, value]) => value !== null && value !== shown)
    .map(([name, value]) => [name, Array.isArray(value) ? value : String(value).split("|")])
    .map(([name, values]) => `${name}: ${values.join(", ")}`)
    .join(" · ");
}

function list(heading, note, items) {
  const section = made("section");
  section.append(made("h2", heading));
  if (note) section.append(made("p", note, { class: "dim" }));
  const table = made("table");
  const head = made("tr");
  head.append(made("th", "#", { class: "number" }), made("th", "Item", { class: "item" }));
  head.append(made("th", "Score", { class: "number" }), made("th", ""));
  table.append(head);
  for (const { item, rank, score, about } of items) {
    const row = made("tr");
    const cell = made("td");
    const name = title(about);
    cell.append(made("strong", name ?? item));
    const more = [name === undefined ? "" : item, rest(about, name)].filter(Boolean).join(" · ");
    if (more) cell.append(made("br"), made("span", more, { class: "dim" }));
    const button = made("button", "Similar", { type: "button", class: "similar" });
    button.addEventListener("click", () => similar(item, name ?? item));
    const last = made("td");
    last.append(button);
    row.append(made("td", rank, { class: "number" }), cell);
    const shown = Number.isInteger(score) ? score.toLocaleString("en") : score.toPrecision(4);
    row.append(made("td", shown, { class: "number" }), last);
    table.append(row);
  }
  section.append(items.length ? table : made("p", "Nothing is left to recommend."));
  return section;
}

async function told(work) {
  $("said").textContent = "";
  token = $("token").value;
  try {
    await work();
  } catch (error) {
    $("said").textContent = error.message;
  }
}

let server = { users: 1, ranks_by: "vectors" };

function source(answer) {
  const picked = basket.size ? " and the picked items" : "";
  if (answer.source === "basket") return "Ranked by the picked items.";
  if (answer.source === "popular") {
    const why = $("user").value.trim() || basket.size
      ? "the model knows neither the user nor a picked item"
      : "neither a user nor an item was given";
    return `Popular items, since ${why}. The score is the number of users.`;
  }
  if (server.ranks_by === "histories") return `Ranked by the items that the user has${picked}.`;
  return `Ranked by the user's vector${picked}.`;
}

function near(name, items) {
  const note = server.ranks_by === "histories"
    ? "Ranked by the filter's scores for a user who has this item alone."
    : "Ranked by the cosine between the items' vectors.";
  return list(`Similar to ${name}`, note, items);
}

function length() {
  return Number($("k").value) || 20;
}

function recommend() {
  return told(async () => {
    const user = $("user").value.trim();
    const picked = [...basket];
    if (!server.users) {
      if (!picked.length) throw new Error("Pick an item: this model finds items that are similar.");
      const answers = await ask("similar", { items: picked.map(([item]) => item), k: length() });
      $("lists").replaceChildren(...answers.map(({ items }, n) => near(picked[n][1], items)));
      return;
    }
    const body = { k: length(), basket: picked.map(([item]) => item) };
    if (user) body.user = user;
    const answer = await ask("recommend", body);
    let note = source(answer);
    if (answer.skipped.length) note += ` Unknown ids: ${answer.skipped.join(", ")}.`;
    const heading = user ? `For ${user}` : picked.length ? "For the picked items" : "For everyone";
    $("lists").replaceChildren(list(heading, note, answer.items));
  });
}

function similar(item, name) {
  return told(async () => {
    const [answer] = await ask("similar", { items: [item] });
    $("lists").prepend(near(name, answer.items));
    $("lists").firstChild.scrollIntoView({ block: "nearest" });
  });
}

function draw() {
  const chips = [...basket].map(([item, name]) => {
    const chip = made("button", `${name} ✕`, { type: "button", "aria-label": `remove ${name}` });
    chip.addEventListener("click", () => { basket.delete(item); draw(); });
    const entry = made("li");
    entry.append(chip);
    return entry;
  });
  $("basket").replaceChildren(...chips);
}

function show(found) {
  $("found").hidden = !found.length;
  $("search").setAttribute("aria-expanded", String(found.length > 0));
  $("found").replaceChildren(...found.map(({ item, title: name }) => {
    const choice = made("button", name === null ? item : `${name} · ${item}`, { type: "button" });
    choice.addEventListener("click", () => {
      basket.set(item, name ?? item);
      $("search").value = "";
      show([]);
      draw();
    });
    const entry = made("li", undefined, { role: "option" });
    entry.append(choice);
    return entry;
  }));
}

let asked = 0;
$("search").addEventListener("input", () => told(async () => {
  const mine = ++asked;
  const text = $("search").value.trim();
  const { items } = text ? await ask(`find?q=${encodeURIComponent(text)}`) : { items: [] };
  if (mine === asked) show(items);
}));
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    $("found").querySelector("button")?.click();
  } else if (event.key === "Escape") {
    show([]);
  }
});
$("ask").addEventListener("submit", (event) => { event.preventDefault(); recommend(); });

async function begin() {
  server = await ask("health");
  const users = server.users ? `${server.users.toLocaleString("en")} users, ` : "";
  $("about").textContent = `${users}${server.items.toLocaleString("en")} items`;
  $("k").max = server.max_k;
  $("k").value = Math.min($("k").value, server.max_k);
  if (!server.users) {
    $("user-field").hidden = true;
    $("items-label").textContent = "Items";
    $("go").textContent = "Find similar items";
  }
  // A link may ask: ?user=u1&item=i1&item=i2
  const query = new URLSearchParams(location.search);
  $("user").value = query.get("user") ?? "";
  for (const item of query.getAll("item")) {
    const nothing = () => ({ items: [] });
    const { items } = await ask(`find?q=${encodeURIComponent(item)}`).catch(nothing);
    basket.set(item, items.find((found) => found.item === item)?.title ?? item);
  }
  draw();
  if (query.has("user") || basket.size) await recommend();
}
told(begin);
