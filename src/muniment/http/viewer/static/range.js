// The form of a range: its times are in the zone that the page shows times in, its query in UTC.

/** Sets the form to work; returns what shows its times in the page's zone, as it is then. */
export function startRange(form) {
  if (form === null) return () => {};
  const inputs = [...form.querySelectorAll("input[type='datetime-local']")];
  let zone = "utc"; // as they came

  function read(input) {
    const moment = new Date(`${input.value}${zone === "utc" ? "Z" : ""}`);
    return Number.isNaN(moment.getTime()) ? null : moment;
  }

  function write(moment) {
    const offset = zone === "utc" ? 0 : moment.getTimezoneOffset() * 60_000;
    return new Date(moment.getTime() - offset).toISOString().slice(0, 19);
  }

  form.addEventListener("formdata", ({ formData }) => {
    for (const input of inputs) {
      const moment = read(input);
      if (moment === null) formData.delete(input.name);
      else formData.set(input.name, moment.toISOString().replace(".000Z", "Z"));
    }
  });

  return () => {
    const moments = inputs.map(read);
    zone = document.documentElement.dataset.zone === "utc" ? "utc" : "local";
    inputs.forEach((input, place) => {
      if (moments[place] !== null) input.value = write(moments[place]);
      for (const label of input.labels) label.textContent = label.dataset[zone];
    });
  };
}
