// Loads an adapter in PEFT's format (from the live page, peftjs or Hugging Face PEFT) and classifies a sentence.
// #region load
import { pipeline } from 'peftjs';

/** Returns the labels with their probabilities, the most likely first: `[{ label: 'negative', score: 0.98 }, ..]`. */
export async function classify(text: string, folder: string) {
  const classifier = await pipeline('text-classification', folder);
  const labels = await classifier(text, { topK: 2 });
  await classifier.dispose();
  return labels;
}
// #endregion load
