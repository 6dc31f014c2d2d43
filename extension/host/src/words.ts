// A line of arguments, taken apart as a POSIX shell would (and a person expects), and put together again.

/** The words of the line; an `Error` that says which quote is open. */
export function split(line: string): string[] {
  const words: string[] = [];
  let [word, begun, quote] = ["", false, ""];
  const end = () => {
    if (begun) words.push(word);
    [word, begun] = ["", false];
  };
  for (let place = 0; place < line.length; place++) {
    const letter = line.charAt(place);
    if (quote) {
      if (letter === quote) quote = "";
      else if (letter === "\\" && quote === '"' && /["\\$`]/.test(line.charAt(place + 1))) word += line.charAt(++place);
      else word += letter;
    } else if (letter === '"' || letter === "'") {
      quote = letter;
      begun = true;
    } else if (/\s/.test(letter)) end();
    else {
      word += letter === "\\" && place + 1 < line.length ? line.charAt(++place) : letter;
      begun = true;
    }
  }
  if (quote) throw new Error(`a ${quote} is not closed`);
  end();
  return words;
}
