<?php
// Two ways to a fresh token: a file that the agent keeps, read for each request, and the agent's socket.
$from_file = trim(file_get_contents(getenv('TKM_TOKEN_FILE')));

$curl = curl_init('http://tkm/token/api');
curl_setopt_array($curl, [
    CURLOPT_UNIX_SOCKET_PATH => getenv('TKM_SOCKET'),
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_FAILONERROR => true,
]);
$from_socket = trim(curl_exec($curl));

// Here a program would call its API: "Authorization: Bearer $from_file".
header('Content-Type: text/plain');
echo substr(hash('sha256', $from_file), 0, 16), ' ', substr(hash('sha256', $from_socket), 0, 16);
