// Classifies the texts of the command line.
import { pipeline } from 'peftjs';

const classify = await pipeline('text-classification', 'my-adapter'); // finds the base model and the labels
for (const text of process.argv.slice(2)) {
  const [best] = await classify(text);
  console.log(best.label.padEnd(10), best.score.toFixed(2), text);
}
await classify.dispose();
