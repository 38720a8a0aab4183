/** The first sentence of a paragraph; one that leads into a formula ends there. */
export function firstSentence(paragraph: string): string {
  const text = paragraph.replace(/\s+/g, ' ').trim();
  const sentence = /^.*?(?<!\b(?:e\.g|i\.e|eq|al|cf))[.!?](?= ["'*[(]*[A-Z`]|$)/.exec(text)?.[0] ?? text;
  return sentence.replace(/:$/, '.');
}
