// An adapter in PEFT's format, from the live page, from train or from Hugging Face PEFT, and what it says of a sentence.
// #region load
import { pipeline } from 'peftjs';

/** The labels of a sentence with their probabilities, the likeliest first: `[{ label: 'negative', score: 0.98 }, ..]`. */
export async function classify(text: string, folder: string) {
  const classifier = await pipeline('text-classification', folder);
  const labels = await classifier(text, { topK: 2 });
  await classifier.dispose();
  return labels;
}
// #endregion load
