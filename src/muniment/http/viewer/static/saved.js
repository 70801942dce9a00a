// Searches that were saved, by name: links, kept in this browser.

const PLACE = "muniment-saved";

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(found) ? found.filter((each) => typeof each?.name === "string" && typeof each?.query === "string") : [];
  } catch {
    return [];
  }
}

/** Sets the menu of saved searches to work. */
export function startSaved(menu) {
  if (menu === null) return;
  const list = menu.querySelector("[data-saved-list]");
  const form = menu.querySelector("[data-save]");

  function keep(saved) {
    try {
      localStorage.setItem(PLACE, JSON.stringify(saved));
    } catch {
      // Storage may be closed to an embedded page.
    }
    show(saved);
  }

  function show(saved) {
    const items = saved.map(({ name, query }) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      const remove = document.createElement("button");
      link.href = `${location.pathname}${query}`;
      link.textContent = name;
      link.dir = "auto";
      remove.type = "button";
      remove.className = "quiet";
      remove.textContent = "×";
      remove.setAttribute("aria-label", menu.dataset.remove.replace("NAME", name));
      remove.addEventListener("click", () => keep(load().filter((each) => each.name !== name)));
      item.append(link, remove);
      return item;
    });
    if (items.length === 0) {
      const none = document.createElement("li");
      none.className = "hint";
      none.textContent = menu.dataset.none;
      items.push(none);
    }
    list.replaceChildren(...items);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = form.querySelector("input").value.trim();
    if (name === "") return;
    // A relative range stays one: the link holds the query as it stands.
    const query = new URLSearchParams(location.search);
    query.delete("cursor");
    keep([...load().filter((each) => each.name !== name), { name, query: `?${query}` }]);
    form.reset();
  });
  show(load());
}
