// Completes the word at the cursor of the search box: a combobox as in the ARIA patterns, with
// the choices of the server and the values of the facets on the page.

const MOST = 12;
const PLAIN = /^[^\s"]+$/;

/** Puts tenants into the list that the field beside the search box offers. */
function offerTenants(tenants) {
  document.querySelector("datalist#tenants")?.replaceChildren(
    ...tenants.map((tenant) => {
      const option = document.createElement("option");
      option.value = tenant;
      return option;
    }),
  );
}

/** Sets the search box in `field` to work; `data-complete` is where the choices come from. */
export function startCompletion(field) {
  if (field === null) return;
  const input = field.querySelector("input");
  const list = field.querySelector("[role='listbox']");
  let known = null;
  let chosen = -1;

  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", list.id);
  input.setAttribute("aria-expanded", "false");

  async function load() {
    if (known !== null) return;
    known = { keys: [], values: {} };
    const answer = await fetch(field.dataset.complete, { headers: { Accept: "application/json" } });
    if (answer.ok) known = await answer.json();
    for (const name of ["actor", "target"]) {
      const shown = document.querySelectorAll(`[aria-labelledby="facet-${name}"] [data-value]`);
      known.values[name] = [...shown].map((each) => each.dataset.value);
    }
    offerTenants(known.values.tenant ?? []);
  }

  /** The word that the cursor stands in: where it begins, and what stands before the cursor. */
  function word() {
    const before = input.value.slice(0, input.selectionStart ?? input.value.length);
    const begin = before.search(/\S*$/);
    return { begin, end: before.length, text: before.slice(begin) };
  }

  function choices(text) {
    const colon = text.indexOf(":");
    if (text === "" || text.startsWith('"')) return [];
    const low = text.toLowerCase();
    const found =
      colon === -1
        ? known.keys.map((key) => `${key}:`)
        : (known.values[text.slice(0, colon)] ?? []).map((value) => {
            const quoted = PLAIN.test(value) ? value : JSON.stringify(value);
            return `${text.slice(0, colon)}:${quoted}`;
          });
    const begins = found.filter((each) => each.toLowerCase().startsWith(low));
    const wanted = low.slice(colon + 1);
    const holds = found.filter((each) => !begins.includes(each) && colon !== -1 && each.toLowerCase().slice(colon + 1).includes(wanted));
    return [...begins, ...holds].filter((each) => each !== text).slice(0, MOST);
  }

  function show(found) {
    list.replaceChildren(
      ...found.map((text, place) => {
        const item = document.createElement("li");
        item.id = `completion-${place}`;
        item.role = "option";
        item.setAttribute("aria-selected", "false");
        item.textContent = text;
        return item;
      }),
    );
    list.hidden = found.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    choose(-1);
  }

  function choose(place) {
    chosen = place;
    [...list.children].forEach((item, each) => item.setAttribute("aria-selected", String(each === place)));
    if (place === -1) input.removeAttribute("aria-activedescendant");
    else {
      input.setAttribute("aria-activedescendant", `completion-${place}`);
      list.children[place].scrollIntoView({ block: "nearest" });
    }
  }

  function take(place) {
    const { begin, end } = word();
    const text = list.children[place].textContent;
    const gap = text.endsWith(":") || input.value[end] === " " ? "" : " ";
    input.setRangeText(text + gap, begin, end, "end");
    input.focus();
    update();
  }

  async function update() {
    await load();
    if (document.activeElement === input) show(choices(word().text));
  }

  document.querySelector("input[list='tenants']")?.addEventListener("focus", load);
  input.addEventListener("input", update);
  input.addEventListener("blur", () => show([]));
  input.addEventListener("keydown", (event) => {
    const count = list.children.length;
    if (list.hidden || event.isComposing) return;
    if (event.key === "ArrowDown") choose((chosen + 1) % count);
    else if (event.key === "ArrowUp") choose(chosen <= 0 ? count - 1 : chosen - 1);
    else if ((event.key === "Enter" || event.key === "Tab") && chosen !== -1) take(chosen);
    else if (event.key === "Escape") {
      show([]);
      event.stopPropagation();
    } else return;
    event.preventDefault();
  });
  list.addEventListener("pointerdown", (event) => {
    const item = event.target.closest("li");
    event.preventDefault(); // the box keeps the focus
    if (item !== null) take([...list.children].indexOf(item));
  });
}
