// Teaches a small encoder what a large one has learnt: MiniLM learns from BERT-base whether a definition is of an
// animal, an artifact, a food or a plant.
import {
  attach,
  compiled,
  diskStorage,
  distillation,
  encodeRows,
  evaluate,
  evaluationData,
  fromPretrained,
  lora,
  predict,
  readTask,
  savePretrained,
  train,
  trainingData,
  withInputs,
  type DataSet,
  type PretrainedModel,
} from 'peftjs';

const { EPOCHS = '3' } = process.env;
const { TEACHER = 'google-bert/bert-base-uncased', STUDENT = 'sentence-transformers/all-MiniLM-L6-v2' } = process.env;
const executor = compiled();
const settings = { executor, epochs: Number(EPOCHS) };
const order = { batchSize: 16, seed: 1 };

const task = await readTask({ train: 'data/fields-train.tsv', dev: 'data/fields-dev.tsv', storage: diskStorage() });
const attached = (model: PretrainedModel) => attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
const rowsFor = ({ tokenizer }: PretrainedModel, rows: DataSet) => encodeRows(rows, tokenizer, { maxTokens: 64 });

// The teacher learns from the labels.
const large = await fromPretrained(TEACHER, { labels: task.classes });
const teacher = attached(large);
const lessons = rowsFor(large, task.train);
await train(teacher, trainingData(lessons, order), settings);
console.log(
  'teacher',
  await evaluate(teacher, evaluationData(rowsFor(large, task.dev), { batchSize: 16 }), { executor }),
);

// Its logits of every training row, in the order of the rows, become an input that only the loss reads.
const logits = await predict(teacher, evaluationData(lessons, { batchSize: 16 }).batches, { executor });

const small = await fromPretrained(STUDENT, { labels: task.classes });
const own = trainingData(rowsFor(small, task.train), order);
const judged = evaluationData(rowsFor(small, task.dev), { batchSize: 16 });

const alone = attached(small);
await train(alone, own, settings);
console.log('student alone', await evaluate(alone, judged, { executor }));

const student = attached(small);
await train(student, withInputs(own, { teacher: logits }), {
  ...settings,
  loss: distillation({ temperature: 2, alpha: 0.5 }),
});
console.log('student taught', await evaluate(student, judged, { executor }));
await savePretrained(student, 'student');
