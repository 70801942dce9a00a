// The key that the reader trusts, remembered in this browser and told to nobody.

const NAME = "muniment.trusted-key";
// An embedded page may be refused its storage; then the key lasts as long as the page.
let unkept = "";

/** The key as it was given; empty if there is none. */
export function kept() {
  try {
    return localStorage.getItem(NAME) ?? unkept;
  } catch {
    return unkept;
  }
}

/** Remembers a key. Gives whether it will be there the next time too. */
export function keep(text) {
  unkept = text;
  try {
    localStorage.setItem(NAME, text);
    return true;
  } catch {
    return false;
  }
}

/** Forgets it. */
export function forget() {
  unkept = "";
  try {
    localStorage.removeItem(NAME);
  } catch {
    // then it was not kept
  }
}
