'use client';
import { useState } from 'react';

/** Asks the server, which answers with the adapter of `npm run train`. */
export function Ask() {
  const [text, setText] = useState('The screen is black since this morning.');
  const [answer, setAnswer] = useState('');
  const ask = async (event) => {
    event.preventDefault();
    const response = await fetch('/api/classify', { method: 'POST', body: text });
    const found = await response.json();
    setAnswer(response.ok ? found.map(({ label, score }) => `${label} ${score.toFixed(2)}`).join(', ') : found.error);
  };
  return (
    <form onSubmit={ask}>
      <input aria-label="a text" value={text} onChange={({ target }) => setText(target.value)} size={50} />
      <button>Classify</button>
      <p id="answer">{answer}</p>
    </form>
  );
}
