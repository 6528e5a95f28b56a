// Before anything is painted: the theme that was chosen, or the system's.
{
  const chosen = localStorage.getItem("efaas-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
