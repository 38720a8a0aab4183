const element = (id) => document.getElementById(id);
const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });

element('table').value = await (await fetch('/assets/data.tsv')).text();
element('train').addEventListener('click', () => {
  isTraining(true);
  worker.postMessage({ kind: 'train', table: element('table').value });
});
element('stop').addEventListener('click', () => worker.postMessage({ kind: 'stop' }));
element('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  worker.postMessage({ kind: 'classify', text: element('text').value });
});

worker.addEventListener('message', ({ data }) => {
  if (data.kind === 'answer') {
    element('answer').textContent = data.labels.map(({ label, score }) => `${label} ${score.toFixed(2)}`).join(', ');
    return;
  }
  if (data.kind === 'step') element('progress').value = data.share;
  else if (['trained', 'stopped', 'failed'].includes(data.kind)) isTraining(false);
  element('state').textContent = said(data);
});

function isTraining(yes) {
  element('train').disabled = yes;
  element('stop').disabled = !yes;
}

function said({ kind, loss, reason }) {
  if (kind === 'step') return `loss ${loss.toFixed(3)}`;
  if (kind === 'trained') return 'trained, and kept in this browser';
  return reason ?? kind;
}
