// What does not hold, by a name that the page has words for.

/** `code` names what is wrong; `values` are what its words mention. */
export class Failure extends Error {
  constructor(code, values = {}) {
    super(code);
    this.code = code;
    this.values = values;
  }
}

/** Throws a `Failure` unless the condition holds. */
export function need(holds, code, values) {
  if (!holds) throw new Failure(code, values);
}
