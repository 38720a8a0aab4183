/** Returns the first sentence of a paragraph. A sentence that introduces a formula ends at its colon. */
export function firstSentence(paragraph: string): string {
  const text = paragraph.replace(/\s+/g, ' ').trim();
  const sentence = /^.*?(?<!\b(?:e\.g|i\.e|eq|al|cf))[.!?](?= ["'*[(]*[A-Z`]|$)/.exec(text)?.[0] ?? text;
  return sentence.replace(/:$/, '.');
}
