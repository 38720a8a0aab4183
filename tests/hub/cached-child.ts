/** Reads a file of the hub's small BERT in a separate process, and prints its length. */
import { hubFiles } from '@peftjs/models';

const files = await hubFiles({ repo: 'peftjs-tests/bert-tiny' });
const { length } = await files.read('model.safetensors');
process.stdout.write(String(length));
